//! Checkpoint store on the embedded log.
