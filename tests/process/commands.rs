//! The commands as a shell runs them.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_port, run, text, tidewire};

/// A second is what is promised; a machine full of tests gets more.
const READY: Duration = Duration::from_secs(5);

/// A running `tidewire dev`, and how to reach it.
struct Dev {
    _node: Process,
    _dir: TempDir,
    target: [String; 4],
}

impl Dev {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data").display().to_string();
        let listen = format!("127.0.0.1:{}", free_port());
        let begun = Instant::now();
        let mut command = tidewire(&["dev", "--listen", &listen, "--data-dir", &data]);
        let node = Process::start(&mut command, true);
        node.line("Tidewire is ready.");
        let ready = begun.elapsed();
        eprintln!("`tidewire dev` was ready after {} ms", ready.as_millis());
        assert!(ready < READY, "{ready:?}");
        let url = format!("http://{listen}");
        for printed in [
            format!("{url}/"),
            format!("ws://{listen}/v1/connect"),
            data.clone(),
        ] {
            node.line(&printed);
        }
        let target = ["--url".to_owned(), url, "--data-dir".to_owned(), data];
        Self {
            _node: node,
            _dir: dir,
            target,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tidewire(arguments);
        command.args(&self.target);
        command
    }

    fn publish(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["publish"];
        all.extend(arguments);
        let output = succeeded(run(&mut self.command(&all)));
        serde_json::from_str(&output).unwrap()
    }
}

fn succeeded(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn failed(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn dev_is_ready_and_everything_talks_to_it() {
    let dev = Dev::start();
    let first = dev.publish(&["chat:lobby", "hello"]);
    assert_eq!(
        (&first["channel"], &first["offset"]),
        (&"chat:lobby".into(), &1.into())
    );
    let once = ["chat:lobby", r#"{"n":2}"#, "--id", "p2"];
    assert_eq!(dev.publish(&once)["offset"], 2);
    let again = dev.publish(&once);
    assert_eq!(
        (&again["duplicate"], &again["offset"]),
        (&true.into(), &2.into())
    );

    let mut piped = dev
        .command(&["publish", "chat:lobby"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    piped
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"n\":3}\nfour\n[5]\n")
        .unwrap();
    succeeded(piped.wait_with_output().unwrap());

    let tail = ["tail", "chat:lobby", "--last", "4", "--json"];
    let tail = Process::start(&mut dev.command(&tail), true);
    for (offset, data) in [
        (2, r#"{"n":2}"#),
        (3, r#"{"n":3}"#),
        (4, "\"four\""),
        (5, "[5]"),
    ] {
        let line: Value = serde_json::from_str(&tail.line("")).unwrap();
        assert_eq!(
            (&line["o"], line["d"].to_string()),
            (&offset.into(), data.to_owned())
        );
    }
    dev.publish(&["chat:lobby", "live"]);
    tail.line("\"live\"");

    for (key, data) in [("status", "1"), ("eta", "2"), ("status", "3")] {
        dev.publish(&["orders:42", data, "--key", key]);
    }
    let state = Process::start(&mut dev.command(&["tail", "orders:42", "--state"]), true);
    assert_eq!(state.line("orders:42"), "orders:42 2 [eta] 2");
    assert_eq!(state.line("orders:42"), "orders:42 3 [status] 3");
}

#[test]
fn refusals_end_with_code_1_and_say_why() {
    let dev = Dev::start();
    let said = failed(&run(&mut dev.command(&["publish", "nowhere:1", "x"])));
    assert!(said.contains("unknown channel"), "{said}");
    let said = failed(&run(&mut dev.command(&["tail", "nowhere:1"])));
    assert!(
        said.contains("nowhere:1") && said.contains("no channel is left"),
        "{said}"
    );
    let bad_key = ["publish", "chat:lobby", "x", "--api-key", "no such key"];
    let said = failed(&run(&mut dev.command(&bad_key)));
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn tokens_are_made_and_looked_into() {
    const SECRET: &str = "a secret that is long enough to sign with";
    let make = [
        "token",
        "--user",
        "ada",
        "--can",
        "chat:*=sub,pub",
        "--ttl",
        "8h",
        "--secret",
        SECRET,
    ];
    let token = succeeded(run(&mut tidewire(&make)));
    let token = token.trim();
    let output = run(&mut tidewire(&[
        "token", "--check", token, "--secret", SECRET,
    ]));
    let note = text(&output.stderr);
    assert!(note.contains("accepted: user ada"), "{note}");
    let claims: Value = serde_json::from_str(&succeeded(output)).unwrap();
    assert_eq!(claims["sub"], "ada");
    assert_eq!(claims["can"], serde_json::json!({"chat:*": ["sub", "pub"]}));
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        8 * 3600
    );
    let other = "another secret that is long enough too";
    let said = failed(&run(&mut tidewire(&[
        "token", "--check", token, "--secret", other,
    ])));
    assert!(said.contains("refuses the token"), "{said}");
    let said = failed(&run(&mut tidewire(&[
        "token", "--check", "no token", "--secret", SECRET,
    ])));
    assert!(said.contains("refuses the token"), "{said}");
}

fn config(dir: &Path, document: &str) -> Output {
    let file = dir.join("tidewire.toml");
    std::fs::write(&file, document).unwrap();
    let file = file.display().to_string();
    run(tidewire(&["config", "--config", &file]).env("TIDEWIRE__LIMITS__FRAME", "64KiB"))
}

#[test]
fn config_shows_what_is_in_force_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "a secret that is long enough to sign with";
    let document = format!("[auth]\nhmac_secret = {secret:?}\n[session]\nttl = \"7m\"\n");
    let shown = succeeded(config(dir.path(), &document));
    assert!(!shown.contains(secret), "{shown}");
    for (setting, origin) in [
        ("ttl = \"7m\"", "tidewire.toml"),
        ("frame = \"64KiB\"", "TIDEWIRE__LIMITS__FRAME"),
        ("sync = \"100ms\"", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(setting));
        assert!(
            line.unwrap_or_else(|| panic!("{setting}: {shown}"))
                .contains(origin),
            "{shown}"
        );
    }
}

#[test]
fn config_names_every_error_at_once_and_nothing_starts_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = "colour = \"blue\"\n[session]\ntll = \"5m\"\n[limits]\npage = \"many\"\n[storage]\nsync = \"sometimes\"\n";
    let said = failed(&config(dir.path(), wrong));
    for part in [
        "the configuration has 4 errors",
        "colour: unknown key",
        "did you mean `ttl`?",
        "limits.page: expected",
        "storage.sync: expected",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let file = dir.path().join("tidewire.toml").display().to_string();
    let serve = run(tidewire(&["serve", "--config", &file]).current_dir(dir.path()));
    assert!(failed(&serve).contains("4 errors"));
    assert!(!dir.path().join("tidewire-data").exists());
}

#[test]
fn top_shows_the_nodes_that_answer_and_names_the_one_that_does_not() {
    let dev = Dev::start();
    let [_, url, ..] = &dev.target;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut command = tidewire(&[
        "top", "--once", "--every", "1", "--url", url, "--url", &nobody,
    ]);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..3], ["NODE", "BROKER", "CONNS"], "{table}");
    let host = |url: &str| url.trim_start_matches("http://").to_owned();
    assert_eq!(lines[1][..3], [&host(url), "ok", "0"], "{table}");
    assert!(lines[1][4].parse::<f64>().is_ok(), "{table}");
    assert!(lines[1][12].ends_with('M'), "{table}");
    assert_eq!(lines[2][..3], [&host(&nobody), "-", "-"], "{table}");
    assert_eq!(
        lines[3].join(" "),
        format!("{} does not answer", host(&nobody))
    );
}
