//! Shows a configuration: what is in force with the origin of each value, and the table of all
//! keys that the README carries.
//!
//! Called by `tidewire config`; secrets arrive here redacted.

use std::fmt::Write;

use super::{
    reader::{Entry, Report},
    tree,
};

/// Where the comments with the origins begin, if the values leave room.
const COMMENT_COLUMN: usize = 44;

/// The effective configuration as TOML, each value followed by its origin as a comment. Keys that
/// are not set are comments themselves.
pub fn effective(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut table: Option<&str> = None;
    for entry in entries {
        let own = entry.path.trim_end_matches(entry.key);
        if table != Some(own) {
            if table.is_some() {
                text.push('\n');
            }
            if !entry.header.is_empty() {
                text.push_str(&entry.header);
                text.push('\n');
            }
            table = Some(own);
        }
        let line = match &entry.value {
            Some(value) => format!("{} = {value}", entry.key),
            None => format!("# {} is not set", entry.key),
        };
        let width = COMMENT_COLUMN;
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{line:<width$}  # {}", entry.origin);
    }
    text
}

/// Every key with its default and what it does, as a Markdown table.
pub fn table() -> String {
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for entry in every_key() {
        let default = entry
            .default
            .as_deref()
            .map_or_else(|| "unset".to_owned(), |default| format!("`{default}`"));
        let place = entry.header.trim_start_matches('[').trim_end_matches(']');
        let list = if entry.header.starts_with("[[") {
            "[]"
        } else {
            ""
        };
        let dot = if place.is_empty() { "" } else { "." };
        let doc = entry.doc.replace('|', "\\|");
        let _infallible = writeln!(
            text,
            "| `{place}{list}{dot}{}` | {default} | {doc} |",
            entry.key
        );
    }
    text
}

/// A document with one table of each kind whose number users choose.
const ONE_OF_EACH: &str = "[namespaces.NAME]\n[[api_keys]]\n[[auth.keys]]\n";

fn every_key() -> Vec<Entry> {
    let mut report = Report::default();
    let table = tree::from_toml(ONE_OF_EACH, "", &mut report.errors);
    super::read(table, &mut report);
    report.entries
}
