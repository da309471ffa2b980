//! The Lua scripts: one atomic step each, with keys, arguments and answers on top of each file.
//! Called by `publish` and `read`.

use crate::redis::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: Script = Script::new(
            $file,
            concat!(
                include_str!("scripts/prelude.lua"),
                include_str!(concat!("scripts/", $file, ".lua"))
            ),
        );
    };
}

script!(PUBLISH, "publish");
script!(HEADS, "heads");
script!(HISTORY, "history");
script!(STATE, "state");
script!(NAMES, "names");
script!(BLANK, "blank");
script!(DELETE, "delete");

/// Every script, for the handshake of each connection.
pub(crate) static SCRIPTS: [&Script; 7] =
    [&PUBLISH, &HEADS, &HISTORY, &STATE, &NAMES, &BLANK, &DELETE];
