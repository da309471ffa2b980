//! Broker on the embedded log.
