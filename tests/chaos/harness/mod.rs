//! Everything a scenario is made of: processes, Redis, a proxy, clients, the run and its report.
//!
//! Used by the tests (`main.rs`) and by the campaign (`campaign.rs`). Nothing here knows the code
//! of the hub: nodes are processes, clients are the published client library, Redis is Redis.

pub mod ask;
pub mod child;
pub mod fault;
pub mod faults;
pub mod journal;
pub mod load;
pub mod logs;
pub mod nodes;
pub mod ports;
pub mod proxy;
pub mod publisher;
pub mod pulse;
pub mod reader;
pub mod report;
pub mod run;
pub mod scenario;
#[path = "../../it/seeded.rs"]
pub mod seeded;
pub mod topology;
