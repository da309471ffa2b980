//! The OpenAPI document says what the router does, no more and no less.

use std::collections::BTreeSet;

use super::*;
use crate::api::{openapi::DOCUMENT, routes};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Every operation of the document: method, path, operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            all.push(((*method).to_owned(), path.clone(), item[*method].clone()));
        }
    }
    all
}

/// Calls `see` with every object in the document.
fn walk(value: &Value, see: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            see(members);
            members.values().for_each(|member| walk(member, see));
        }
        Value::Array(elements) => elements.iter().for_each(|element| walk(element, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn it_describes_every_route_and_nothing_else() {
    let lab = lab().await;
    let mut served = BTreeSet::from([("get".to_owned(), "/openapi.json".to_owned())]);
    for (path, _) in routes() {
        for method in METHODS {
            let concrete = path.replace(['{', '}'], "");
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(format!("/v1{concrete}"));
            let answer = lab.send(request.body(Body::empty()).unwrap()).await;
            assert!(
                matches!(answer.status.as_u16(), 401 | 405),
                "{method} {path}: {}",
                answer.status
            );
            if answer.status == 401 {
                served.insert((method.to_owned(), path.to_owned()));
            }
        }
    }
    let described = operations(&document());
    let described = described
        .into_iter()
        .map(|(method, path, _)| (method, path));
    assert_eq!(described.collect::<BTreeSet<_>>(), served);
}

#[tokio::test]
async fn it_is_served_to_anyone() {
    let lab = lab().await;
    let request = Request::get("/v1/openapi.json").body(Body::empty());
    let answer = lab.send(request.unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[test]
fn its_references_lead_somewhere_and_nothing_is_unused() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, &mut |members| {
        if let Some(reference) = members.get("$ref") {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(
                document.pointer(pointer).is_some(),
                "{pointer} leads nowhere"
            );
            used.insert(pointer.to_owned());
        }
    });
    for kind in ["schemas", "responses", "parameters"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(
                used.contains(&format!("/components/{kind}/{name}")),
                "{kind} {name} is unused"
            );
        }
    }
}

#[test]
fn its_operations_are_whole() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let told = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{told}"
        );
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{told}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{told}"
        );
        for (status, response) in responses
            .iter()
            .filter(|(status, _)| !status.starts_with('2'))
        {
            let pointer = response["$ref"].as_str().unwrap().trim_start_matches('#');
            let example = &document.pointer(pointer).unwrap()["content"]["application/problem+json"]
                ["example"];
            assert_eq!(example["status"].to_string(), *status, "{told}");
        }
        let item = &document["paths"][&path];
        let names = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let declared = item["parameters"].as_array().map_or(0, Vec::len);
        assert_eq!(names.count(), declared, "{told}");
    }
}

/// Checks a value against a schema, as far as the document uses JSON Schema for shapes.
fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return check(document, schema, value);
    }
    let told = |what: &str| Err(format!("{what}: {value} against {schema}"));
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices
            .iter()
            .filter(|choice| check(document, choice, value).is_ok());
        if fitting.count() != 1 {
            return told("not one of");
        }
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|known| !known.contains(value))
    {
        return told("not in the enum");
    }
    let fits = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some(_) => false,
    };
    if !fits {
        return told("another type");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return told("a member is missing");
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => check(document, schema, member)?,
            None if schema["additionalProperties"] == false => return told("an unknown member"),
            None => {}
        }
    }
    let mut elements = value.as_array().into_iter().flatten();
    elements.try_for_each(|element| check(document, &schema["items"], element))
}

/// Checks an answer against a schema of the document.
pub(super) fn check_schema(name: &str, value: &Value) {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    check(&document(), &schema, value).unwrap();
}

#[test]
fn its_examples_are_of_their_schemas() {
    let document = document();
    let mut seen = 0;
    walk(&document, &mut |members| {
        let Some(schema) = members
            .get("schema")
            .filter(|_| !members.contains_key("in"))
        else {
            return;
        };
        let named = members.get("examples").and_then(Value::as_object);
        let named = named
            .into_iter()
            .flat_map(|all| all.values().map(|one| &one["value"]));
        for example in members.get("example").into_iter().chain(named) {
            check(&document, schema, example).unwrap();
            seen += 1;
        }
    });
    assert!(seen > 20, "{seen}");
}

#[tokio::test]
async fn answers_are_of_their_schemas() {
    let lab = lab().await;
    let item = json!({"channel": "orders:1", "key": "k", "event": "e", "id": "i", "ttl": 60_000, "data": {"a": null}});
    let bytes = json!({"channel": "orders:1", "bytes": "AA=="});
    let twice = json!({"items": [item, bytes, item, {"channel": "x:1", "data": 1}]});
    let gone = "/v1/channels/orders:1/history?after=99";
    let failing = json!({"channel": "orders:1", "data": 1, "if": {"offset": 0}});
    lab.enter("orders:1", "ann/1", "{}").await;
    for (method, path, body, name) in [
        ("POST", "/v1/batch", twice.to_string(), "Results"),
        ("POST", "/v1/publish", failing.to_string(), "Problem"),
        (
            "GET",
            "/v1/channels/orders:1/history",
            String::new(),
            "HistoryPage",
        ),
        (
            "GET",
            "/v1/channels/orders:1/state",
            String::new(),
            "StatePage",
        ),
        (
            "GET",
            "/v1/channels/orders:1/presence",
            String::new(),
            "Members",
        ),
        ("GET", "/v1/channels", String::new(), "Channels"),
        ("GET", "/v1/nodes", String::new(), "Nodes"),
        ("GET", "/v1/sessions?user=a", String::new(), "Sessions"),
        (
            "GET",
            "/v1/channels/orders:1",
            String::new(),
            "ChannelShown",
        ),
        ("GET", gone, String::new(), "Problem"),
        ("GET", "/v1/nothing", String::new(), "Problem"),
        (
            "POST",
            "/v1/users/ann/disconnect",
            String::new(),
            "Disconnected",
        ),
        ("DELETE", "/v1/channels/orders:1", String::new(), "Channel"),
    ] {
        let answer = lab.call(method, path, body).await;
        check_schema(name, &answer.json());
    }
}

#[tokio::test]
async fn its_examples_are_taken() {
    let lab = lab().await;
    let document = document();
    for (path, name) in [
        ("/publish", "data"),
        ("/publish", "several"),
        ("/publish", "bytes"),
        ("/publish", "guarded"),
        ("/publish", "remove"),
    ] {
        let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
            [name]["value"];
        let answer = lab
            .call("POST", &format!("/v1{path}"), body.to_string())
            .await;
        // Namespaces and positions of the examples are not this node's; their shapes are.
        assert!(
            matches!(answer.status.as_u16(), 200 | 404 | 412),
            "{name}: {:?}",
            answer.body
        );
    }
}
