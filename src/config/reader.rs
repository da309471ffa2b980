//! Takes settings out of the layered tree and reports what is left over or wrong.
//!
//! Called by every section's `read`. What it saw is the report: each key with its value, its
//! origin and its documentation, from which `print` renders `tidewire config` and the README.

use super::{
    error::{ConfigError, Problem},
    setting::{Section, Setting},
    tree::{Node, Origin, Raw, Table, Value},
};

/// Most entries of one list of tables: keys are compared one after another.
const LIST_ENTRIES_MAX: usize = 1024;

/// One setting as it is in force.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The table it stands in, as a TOML header; empty for the top.
    pub header: String,
    /// Its key in that table.
    pub key: &'static str,
    /// Its dotted key.
    pub path: String,
    /// Its value as TOML; none: not set. Secrets are redacted.
    pub value: Option<String>,
    /// Its default as TOML; none: not set.
    pub default: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
    /// What it does.
    pub doc: &'static str,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Report {
    /// Every setting in the order of the sections.
    pub entries: Vec<Entry>,
    /// Everything that is wrong.
    pub errors: Vec<ConfigError>,
}

impl Report {
    /// Where the value of a dotted key came from.
    pub fn origin(&self, path: &str) -> Origin {
        let entry = self.entries.iter().find(|entry| entry.path == path);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Adds an error about a key that was read.
    pub fn refuse(&mut self, path: &str, problem: Problem) {
        self.errors.push(ConfigError {
            key: path.to_owned(),
            origin: self.origin(path),
            problem,
        });
    }
}

/// One table of the tree while its keys are taken.
#[derive(Debug)]
pub struct Reader<'a> {
    table: Table,
    header: String,
    prefix: String,
    known: Vec<&'static str>,
    report: &'a mut Report,
}

impl<'a> Reader<'a> {
    /// Reads the top table.
    pub fn top<T>(
        table: Table,
        report: &'a mut Report,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        Self::within(table, String::new(), String::new(), report, read)
    }

    fn within<T>(
        table: Table,
        header: String,
        prefix: String,
        report: &mut Report,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let mut reader = Reader {
            table,
            header,
            prefix,
            known: Vec::new(),
            report,
        };
        let value = read(&mut reader);
        reader.finish();
        value
    }

    /// Takes one key; the default where it is absent or wrong.
    pub fn get<T: Setting>(&mut self, key: &'static str, default: T, doc: &'static str) -> T {
        self.known.push(key);
        let shown_default = default.show();
        let (value, origin) = match self.table.remove(key) {
            None => (default, Origin::Default),
            Some(node) => {
                let parsed = match &node.value {
                    Value::Leaf(raw) => T::from_raw(raw),
                    Value::Table(_) => None,
                };
                let value = parsed.unwrap_or_else(|| {
                    self.fail(
                        key,
                        node.origin.clone(),
                        Problem::Expected {
                            expected: T::EXPECTED,
                            found: found(&node.value, T::SECRET),
                        },
                    );
                    default
                });
                (value, node.origin)
            }
        };
        self.report.entries.push(Entry {
            header: self.header.clone(),
            key,
            path: format!("{}{key}", self.prefix),
            value: value.show(),
            default: shown_default,
            origin,
            doc: doc.trim(),
        });
        value
    }

    /// Takes a table with known keys; all defaults where it is absent.
    pub fn section<T: Section>(&mut self, key: &'static str) -> T {
        self.known.push(key);
        let table = self.take_table(key).unwrap_or_default();
        let header = self.child_header(key);
        let prefix = format!("{}{key}.", self.prefix);
        Self::within(table, header, prefix, self.report, T::read)
    }

    /// Takes a table whose keys users choose, each a section; where it is absent, one section of
    /// defaults named `otherwise`.
    pub fn map<T: Section>(
        &mut self,
        key: &'static str,
        otherwise: &str,
    ) -> Vec<(String, Origin, T)> {
        self.known.push(key);
        let table = self.take_table(key).unwrap_or_else(|| {
            let empty = Node {
                origin: Origin::Default,
                value: Value::Table(Table::new()),
            };
            [(otherwise.to_owned(), empty)].into()
        });
        let parent = self.child_header(key);
        let mut sections = Vec::with_capacity(table.len());
        for (name, node) in table {
            let path = format!("{}{key}.{name}", self.prefix);
            let Value::Table(inner) = node.value else {
                self.fail(&format!("{key}.{name}"), node.origin, Problem::NotATable);
                continue;
            };
            let header = format!(
                "{}.{}]",
                parent.trim_end_matches(']'),
                bare_or_quoted(&name)
            );
            let section = Self::within(inner, header, format!("{path}."), self.report, T::read);
            sections.push((name, node.origin, section));
        }
        sections
    }

    /// Takes a list of tables; empty where it is absent.
    pub fn list<T: Section>(&mut self, key: &'static str) -> Vec<T> {
        self.known.push(key);
        let header = format!("[{}]", self.child_header(key));
        let (origin, table) = match self.table.remove(key) {
            None => return Vec::new(),
            Some(Node {
                value: Value::Leaf(Raw::List(items)),
                ..
            }) if items.is_empty() => return Vec::new(),
            Some(Node {
                origin,
                value: Value::Table(table),
            }) => (origin, table),
            Some(Node { origin, .. }) => {
                self.fail(
                    key,
                    origin,
                    Problem::NotAList(format!("{}{key}", self.prefix)),
                );
                return Vec::new();
            }
        };
        let mut numbered: Vec<(usize, Node)> = Vec::with_capacity(table.len());
        let mut sound = table.len() <= LIST_ENTRIES_MAX;
        for (name, node) in table {
            match name.parse() {
                Ok(number) => numbered.push((number, node)),
                Err(_) => sound = false,
            }
        }
        numbered.sort_by_key(|(number, _)| *number);
        sound &= numbered
            .iter()
            .enumerate()
            .all(|(at, (number, _))| at == *number);
        if !sound {
            self.fail(
                key,
                origin,
                Problem::NotAList(format!("{}{key}", self.prefix)),
            );
            return Vec::new();
        }
        let mut sections = Vec::with_capacity(numbered.len());
        for (number, node) in numbered {
            let Value::Table(inner) = node.value else {
                self.fail(&format!("{key}.{number}"), node.origin, Problem::NotATable);
                continue;
            };
            let prefix = format!("{}{key}.{number}.", self.prefix);
            sections.push(Self::within(
                inner,
                header.clone(),
                prefix,
                self.report,
                T::read,
            ));
        }
        sections
    }

    fn take_table(&mut self, key: &'static str) -> Option<Table> {
        let node = self.table.remove(key)?;
        match node.value {
            Value::Table(table) => Some(table),
            Value::Leaf(_) => {
                self.fail(key, node.origin, Problem::NotATable);
                None
            }
        }
    }

    fn child_header(&self, key: &str) -> String {
        if self.header.is_empty() {
            format!("[{key}]")
        } else {
            format!("{}.{key}]", self.header.trim_end_matches(']'))
        }
    }

    fn fail(&mut self, key: &str, origin: Origin, problem: Problem) {
        self.report.errors.push(ConfigError {
            key: format!("{}{key}", self.prefix),
            origin,
            problem,
        });
    }

    fn finish(mut self) {
        for (key, node) in std::mem::take(&mut self.table) {
            let problem = Problem::UnknownKey {
                close: self.closest(&key).map(str::to_owned),
            };
            self.fail(&key, node.origin, problem);
        }
    }

    /// The known key that differs by at most two letters.
    fn closest(&self, key: &str) -> Option<&'static str> {
        let distances = self
            .known
            .iter()
            .map(|known| (distance(known, key), *known));
        let (distance, known) = distances.min()?;
        (distance <= 2 && distance < key.len()).then_some(known)
    }
}

fn found(value: &Value, secret: bool) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Leaf(Raw::Other(what)) => (*what).to_owned(),
        Value::Leaf(_) if secret => "something else".to_owned(),
        Value::Leaf(Raw::Text(text) | Raw::Untyped(text)) => super::setting::quoted(text),
        Value::Leaf(Raw::Integer(number)) => number.to_string(),
        Value::Leaf(Raw::Flag(flag)) => flag.to_string(),
        Value::Leaf(Raw::List(_)) => "a list".to_owned(),
    }
}

fn bare_or_quoted(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        super::setting::quoted(name)
    }
}

/// Edit distance of two short words.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
