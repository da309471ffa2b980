//! How values of each type are read and shown, and the macro that declares a section once: its
//! struct, its defaults, its keys and the text of its documentation.
//!
//! Called by the section structs of every module; knows no key.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    secret::Secret,
    tree::Raw,
    units::{ByteSize, Percent, Rate, parse_duration, show_duration},
};

/// A type a setting can have.
pub trait Setting: Sized {
    /// What a user is told to write.
    const EXPECTED: &'static str;
    /// Whether the value must not be shown.
    const SECRET: bool = false;

    /// Reads a text; what a TOML string and an environment variable share.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a value as written. The default takes text alone.
    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) | Raw::Untyped(text) => Self::from_text(text),
            Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }

    /// The value as TOML; none: it is not set.
    fn show(&self) -> Option<String>;
}

/// A text as a TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

macro_rules! text_settings {
    ($($ty:ty, $expected:literal, $parse:expr, $show:expr;)+) => { $(
        impl Setting for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Option<Self> {
                $parse(text)
            }
            fn show(&self) -> Option<String> {
                Some(quoted(&$show(self)))
            }
        }
    )+ };
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

text_settings! {
    String, "a text that is not empty", not_empty, Self::clone;
    PathBuf, "a path", |text| not_empty(text).map(Self::from), |path: &Self| path.display().to_string();
    SocketAddr, "an address such as \"127.0.0.1:8080\"", |text: &str| text.parse().ok(), Self::to_string;
    IpNet, "a network such as \"10.0.0.0/8\", or an address", network, Self::to_string;
    Duration, "a duration such as \"30s\", \"5m\" or \"100ms\"", parse_duration, |span: &Self| show_duration(*span);
    Rate, "a rate such as \"50/s\"", Self::parse, Self::to_string;
    Percent, "a percentage such as \"75%\"", Self::parse, Self::to_string;
}

impl Setting for Secret {
    const EXPECTED: &'static str = "a text that is not empty";
    const SECRET: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        not_empty(text).map(Self::new)
    }

    fn show(&self) -> Option<String> {
        Some(quoted("<redacted>"))
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = "a size such as \"64KiB\", \"1MiB\" or a number of bytes";

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| text.parse().ok().map(Self))
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => u64::try_from(*number).ok().map(Self),
            Raw::Text(text) | Raw::Untyped(text) => Self::from_text(text),
            Raw::Flag(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

macro_rules! number_settings {
    ($($ty:ty, $expected:literal;)+) => { $(
        impl Setting for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn from_raw(raw: &Raw) -> Option<Self> {
                match raw {
                    Raw::Integer(number) => number.to_string().parse().ok(),
                    Raw::Untyped(text) => Self::from_text(text),
                    Raw::Text(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_) => None,
                }
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+ };
}

number_settings! {
    u32, "a whole number from 0 to 4294967295";
    NonZeroU32, "a whole number from 1 to 4294967295";
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(*flag),
            Raw::Untyped(text) => Self::from_text(text),
            Raw::Text(_) | Raw::Integer(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        T::from_raw(raw).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// What the entries of a list are called when it is refused.
pub trait ListItem: Setting {
    /// What a user is told to write for the whole list.
    const LIST_EXPECTED: &'static str;
}

impl ListItem for String {
    const LIST_EXPECTED: &'static str = "a list of texts (in the environment: separated by commas)";
}

impl ListItem for IpNet {
    const LIST_EXPECTED: &'static str =
        "a list of networks such as \"10.0.0.0/8\" (in the environment: separated by commas)";
}

impl<T: ListItem> Setting for Vec<T> {
    const EXPECTED: &'static str = T::LIST_EXPECTED;

    fn from_text(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(T::from_text)
            .collect()
    }

    fn from_raw(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(items) => items.iter().map(T::from_raw).collect(),
            Raw::Untyped(text) => Self::from_text(text),
            Raw::Text(_) | Raw::Integer(_) | Raw::Flag(_) | Raw::Other(_) => None,
        }
    }

    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(T::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// Declares a setting whose values are words: an enum and how each variant is written.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident ($expected:literal) {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word that stands for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the word stands for.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::config::setting::Setting for $name {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Option<Self> {
                Self::parse(text)
            }
            fn show(&self) -> Option<String> {
                Some($crate::config::setting::quoted(self.word()))
            }
        }
    };
}
pub(crate) use words;

/// A table of settings.
pub trait Section: Sized {
    /// Takes its keys from the reader; what is wrong is in the reader's report.
    fn read(reader: &mut super::reader::Reader<'_>) -> Self;
}

/// Declares a section: each field is a key, its doc comment the documentation users read, the
/// right side of `=` its default. Fields after `;` are no keys.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $ty:ty = $default:expr,)+
        $(; $($(#[$extra_meta:meta])+ $extra:ident: $extra_ty:ty = $extra_default:expr,)+)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $ty,)+
            $($($(#[$extra_meta])+ pub $extra: $extra_ty,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ $($($extra: $extra_default,)+)? }
            }
        }

        impl $crate::config::setting::Section for $name {
            fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Self {
                Self {
                    $($key: reader.get(stringify!($key), $default, concat!($($doc),+)),)+
                    $($($extra: $extra_default,)+)?
                }
            }
        }
    };
}
pub(crate) use section;
