//! Simulation: whole nodes (gateway, sessions, feed, channels) over a simulated Redis, network and
//! clients, in virtual time, from one seed. Nothing here is in the product; nothing of the
//! product is replaced but the sockets and what is behind the two seams.
//!
//! `scripts/sim --seeds N --from S` runs more of them; a seed that failed once is kept in
//! `seeds::KEPT` and always runs.

mod app;
mod client;
mod cluster;
mod data;
mod faults;
mod hub;
mod lane;
mod link;
mod random;
mod run;
mod seams;
mod seeds;
mod wire;
mod world;
