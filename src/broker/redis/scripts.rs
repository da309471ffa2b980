//! The Lua scripts: one atomic step each, with keys, arguments and answers on top of each file.
//! Called by `publish` and `read`.

use crate::redis::Script;

/// The text of a script: the checks every step begins with, then files in their order.
macro_rules! script {
    ($name:ident, $as:literal, $($file:literal),+) => {
        pub(super) static $name: Script = Script::new(
            $as,
            concat!(include_str!("scripts/step.lua"), $(include_str!(concat!("scripts/", $file, ".lua"))),+),
        );
    };
}

script!(PLAIN, "publish_plain", "plain");
script!(PUBLISH, "publish", "publish", "channel", "publish_rest");
script!(HEADS, "heads", "channel", "heads");
script!(HISTORY, "history", "channel", "history");
script!(STATE, "state", "channel", "state");
script!(NAMES, "names", "names");
script!(BLANK, "blank", "channel", "blank");
script!(DELETE, "delete", "channel", "delete");

/// Every script, for the handshake of each connection.
pub(crate) static SCRIPTS: [&Script; 8] = [
    &PLAIN, &PUBLISH, &HEADS, &HISTORY, &STATE, &NAMES, &BLANK, &DELETE,
];
