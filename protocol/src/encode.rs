//! Encoding of frames (the node's side) and of commands (a client's side).
