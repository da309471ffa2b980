//! The node's half of the dialogues in `protocol/vectors/scripts` (rules: `vectors/README.md`).

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::support::{Client, TestNode, now_s, token_with, with};

const CONFIG: &str = r#"
[namespaces.chat]
history_size = 1000
[namespaces.short]
history_size = 2
[namespaces.stats]
history_size = 1000
state = true
[namespaces.room]
presence = "members"
"#;

/// Variables: what the script has for them, and what they are bound to.
#[derive(Clone, Default)]
struct Variables {
    given: BTreeMap<String, Value>,
    bound: BTreeMap<String, Value>,
}

impl Variables {
    fn of(script: &Value) -> Self {
        let given: BTreeMap<String, Value> =
            serde_json::from_value(script["vars"].clone()).unwrap_or_default();
        let user = given.get("user").cloned().unwrap_or(json!("ana"));
        let mut bound = BTreeMap::new();
        for (n, name) in given.keys().enumerate() {
            if name.starts_with("token") {
                let can = json!({"*": ["sub", "pub", "history", "presence"]});
                let exp = now_s() + 3600 + n as u64;
                bound.insert(
                    name.clone(),
                    json!(token_with(json!({"sub": user, "exp": exp, "can": can}))),
                );
            }
        }
        Self { given, bound }
    }

    fn name<'a>(&self, value: &'a Value) -> Option<&'a str> {
        let name = value.as_str()?.strip_prefix('$')?;
        self.given.contains_key(name).then_some(name)
    }

    /// The frame to send.
    fn filled(&mut self, value: &Value) -> Value {
        if let Some(name) = self.name(value) {
            let given = self.given[name].clone();
            return self.bound.entry(name.to_owned()).or_insert(given).clone();
        }
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    (
                        self.filled(&json!(key)).as_str().unwrap().to_owned(),
                        self.filled(value),
                    )
                })
                .collect(),
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                other.clone()
            }
        }
    }

    /// Whether a value is what the pattern says; binds what is free.
    fn matches(&mut self, pattern: &Value, value: &Value) -> bool {
        if let Some(name) = self.name(pattern) {
            if name == "now" || name.starts_with("ts") {
                return value.is_u64();
            }
            return match self.bound.get(name) {
                Some(bound) => bound == value,
                None => {
                    self.bound.insert(name.to_owned(), value.clone());
                    true
                }
            };
        }
        match (pattern, value) {
            (Value::Object(pattern), Value::Object(value)) => {
                pattern.iter().all(|(key, pattern)| {
                    value
                        .get(key)
                        .is_some_and(|value| self.matches(pattern, value))
                })
            }
            (Value::Array(pattern), Value::Array(value)) => {
                pattern.len() == value.len()
                    && pattern
                        .iter()
                        .zip(value)
                        .all(|(pattern, value)| self.matches(pattern, value))
            }
            (pattern, value) => pattern == value,
        }
    }

    /// As `matches`, and binds nothing where it does not.
    fn takes(&mut self, pattern: &Value, value: &Value) -> bool {
        let mut tried = self.clone();
        let matches = tried.matches(pattern, value);
        if matches {
            *self = tried;
        }
        matches
    }
}

struct Dialogue {
    node: TestNode,
    backend: Client,
    connections: Vec<Option<Client>>,
    variables: Variables,
}

impl Dialogue {
    fn slot(&mut self, step: &Value) -> &mut Option<Client> {
        let newest = self.connections.len() - 1;
        let number = step["conn"]
            .as_u64()
            .map_or(newest, |conn| usize::try_from(conn).unwrap());
        &mut self.connections[number]
    }

    fn client(&mut self, step: &Value) -> &mut Client {
        self.slot(step).as_mut().expect("an open connection")
    }

    async fn run(&mut self, step: &Value) {
        let (kind, body) = step
            .as_object()
            .unwrap()
            .iter()
            .find(|(key, _)| *key != "conn")
            .unwrap();
        match kind.as_str() {
            "connect" => {
                let client = Client::connect(self.node.address()).await;
                self.connections.push(Some(client));
            }
            "client" => {
                let frame = self.variables.filled(body);
                self.client(step).send(frame).await;
            }
            "node" => self.expect(step, body).await,
            "backend" => self.backend(body).await,
            "drop" => drop(self.slot(step).take()),
            "close" => {
                let (code, _) = self.slot(step).take().unwrap().closed().await;
                assert_eq!(json!(code), *body);
            }
            "ended" => {
                let mut client = self.slot(step).take().unwrap();
                client.socket.close(None).await.unwrap_or_default();
            }
            "api" | "event" | "advance" | "quiet" => {}
            other => panic!("an unknown step: {other}"),
        }
    }

    async fn expect(&mut self, step: &Value, body: &Value) {
        let Value::Array(patterns) = body else {
            let frame = loop {
                let frame = self.client(step).frame().await;
                if frame["t"] != "ping" {
                    break frame;
                }
            };
            assert!(self.variables.takes(body, &frame), "{frame}, not {body}");
            return;
        };
        let mut patterns = patterns.clone();
        while !patterns.is_empty() {
            let frame = self.client(step).frame().await;
            let taken = patterns
                .iter()
                .position(|pattern| self.variables.takes(pattern, &frame));
            let Some(taken) = taken else {
                panic!("{frame}, not one of {patterns:?}");
            };
            patterns.remove(taken);
        }
    }

    async fn backend(&mut self, body: &Value) {
        if let Some(publish) = body.get("publish") {
            let mut frame = json!({"d": publish["data"]});
            if publish.get("key").is_some() {
                frame["k"] = publish["key"].clone();
            }
            if publish["delete"] == true {
                frame = json!({"k": publish["key"], "del": true});
            }
            let channel = publish["channel"].as_str().unwrap();
            let ok = self
                .backend
                .ask(with(json!({"t": "pub", "ch": channel}), &frame))
                .await;
            assert_eq!(ok["t"], "ok", "{ok}");
        } else {
            self.node
                .delete(body["delete"]["channel"].as_str().unwrap())
                .await;
        }
    }
}

async fn play(script: &Value) {
    let node = TestNode::with(CONFIG).await;
    let backend = node.client("backend").await;
    let mut dialogue = Dialogue {
        node,
        backend,
        connections: Vec::new(),
        variables: Variables::of(script),
    };
    for step in script["steps"].as_array().unwrap() {
        dialogue.run(step).await;
    }
    for client in dialogue.connections.iter_mut().flatten() {
        assert_eq!(client.drained().await, Vec::<Value>::new(), "left over");
    }
}

#[tokio::test]
async fn every_dialogue_is_true_of_a_real_node() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol/vectors/scripts");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let script: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let sides = script["sides"].as_array();
        if sides.is_some_and(|sides| !sides.contains(&json!("node"))) {
            continue;
        }
        eprintln!("{}", script["name"]);
        play(&script).await;
        played += 1;
    }
    assert!(played >= 10, "{played}");
}
