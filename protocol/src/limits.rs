//! Limits of the wire that no configuration can change, each with its reason.

/// Longest channel name in bytes: fits every log line and every key of the stores.
pub const CHANNEL_BYTES_MAX: usize = 200;
/// Longest key, event name, publication id and user in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest epoch in bytes: it carries a log's life and the primary's generation.
pub const EPOCH_BYTES_MAX: usize = 48;
/// Deepest nesting of `d`: a parser of any language handles it without growing its stack.
pub const DEPTH_MAX: usize = 32;
/// Most subscriptions of one session: the ready set of a connection is 256 bits.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Most commands in one WebSocket message: bounds the work of one read.
pub const COMMANDS_PER_MESSAGE_MAX: usize = 1024;
/// Largest message from node to client in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes a member may say of itself (`me`).
pub const MEMBER_BYTES_MAX: usize = 1024;
/// Largest integer on the wire: a double holds it exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most deliveries a second a subscription can ask for: finer than a screen shows.
pub const HZ_MAX: u32 = 1000;
