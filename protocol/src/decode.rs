//! Decoding of commands (the node's side) and of frames (a client's side).
