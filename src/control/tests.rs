//! Control over a real broker.
