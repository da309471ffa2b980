//! What users write, what they are told, and that the printed configuration is one itself.

use std::{path::PathBuf, time::Duration};

use tidewire_protocol::ChannelName;

use super::*;
use crate::auth::{Right, Scope};

fn sources(toml: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidewire.toml");
    std::fs::write(&path, toml).unwrap();
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    (folder, sources)
}

fn from_toml(toml: &str) -> Result<Loaded, ConfigErrors> {
    load(sources(toml).1)
}

/// The errors without the folder of the test.
fn errors_of(toml: &str, env: &[(&str, &str)]) -> Vec<String> {
    let (folder, mut sources) = sources(toml);
    sources.env = env
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let errors = load(sources).unwrap_err();
    let prefix = format!("{}/", folder.path().display());
    errors
        .0
        .iter()
        .map(|error| error.to_string().replace(&prefix, ""))
        .collect()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

const EVERYTHING: &str = r#"
listen = "0.0.0.0:8081"
internal_listen = "127.0.0.1:9090"
data_dir = "/var/lib/tidewire"
cluster_secret = "0123456789abcdef0123456789abcdef"
[auth]
hmac_secret = "abcdefghijklmnopqrstuvwxyz012345"
jwks_url = "https://id.example.com/keys"
issuer = "https://id.example.com/"
audience = "hub"
anonymous = true
allowed_origins = ["https://app.example.com"]
[[auth.keys]]
kid = "a"
algorithm = "ES256"
path = "/etc/tidewire/a.pem"
[[api_keys]]
key = "one"
scopes = ["publish", "read"]
[[api_keys]]
key_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
scopes = ["manage"]
[session]
ttl = "2h"
[namespaces.orders]
history_size = 1000
history_ttl = "24h"
state = true
state_keys = 10000
state_ttl = "7d"
presence = "members"
max_rate = "600/m"
allow = ["sub"]
[namespaces.dash]
presence = false
[limits]
connections = 1000
frame = "64KiB"
publication = 1024
commands = "20/s"
memory = "50%"
[drain]
window = "10s"
rate = 100
[storage]
sync = "always"
[tls]
cert = "c.pem"
key = "k.pem"
[log]
format = "pretty"
level = "debug"
"#;

#[test]
fn every_key_of_a_file_is_read() {
    let config = from_toml(EVERYTHING).unwrap().config;
    assert_eq!(config.node.listen.port(), 8081);
    assert_eq!(config.node.data_dir, PathBuf::from("/var/lib/tidewire"));
    assert_eq!(config.auth.keys.len(), 1);
    assert!(config.auth.anonymous);
    assert_eq!(config.api_keys[0].scopes, [Scope::Publish, Scope::Read]);
    assert_eq!(config.session.ttl, Duration::from_secs(7_200));
    let orders = config.namespaces.resolve(&channel("orders:1")).unwrap();
    assert_eq!(orders.max_rate.per_millisecond(), 0.01);
    assert_eq!(orders.presence, Presence::Members);
    assert_eq!(orders.allow, [Right::Sub]);
    assert_eq!(config.limits.publication, ByteSize::kib(1));
    assert_eq!(config.storage.sync, Sync::Always);
    assert_eq!(config.log.format, LogFormat::Pretty);
}

#[test]
fn every_error_is_reported_at_once_with_its_line() {
    let toml = "listen = \"nowhere\"\nlistn = 1\n[redis]\nurl = \"http://:secret@x\"\n[limits]\nframe = \"64KB\"\nsubscriptions = 300\n[namespaces.\"a:b\"]\nstate = 1\nhistory_ttl = \"1 day\"\n[drain]\nwindow = \"10s\"\n[[api_keys]]\nscopes = [\"fly\"]\n";
    let errors = errors_of(
        toml,
        &[
            ("TIDEWIRE__LOG__FORMAT", "xml"),
            ("TIDEWIRE__LOGS__LEVEL", "x"),
        ],
    );
    let expected = [
        "listen: expected an address such as \"127.0.0.1:8080\", found \"nowhere\" (file tidewire.toml:1)",
        "api_keys.0.scopes: expected a list of \"publish\", \"read\", \"manage\", found a list (file tidewire.toml:14)",
        "namespaces.a:b.history_ttl: expected a duration such as \"30s\", \"5m\" or \"100ms\", found \"1 day\" (file tidewire.toml:10)",
        "namespaces.a:b.state: expected true or false, found 1 (file tidewire.toml:9)",
        "limits.frame: expected a size such as \"64KiB\", \"1MiB\" or a number of bytes, found \"64KB\" (file tidewire.toml:6)",
        "log.format: expected \"json\" or \"pretty\", found \"xml\" (env TIDEWIRE__LOG__FORMAT)",
        "listn: unknown key; did you mean `listen`? (file tidewire.toml:2)",
        "logs: unknown key; did you mean `log`? (env TIDEWIRE__LOGS__LEVEL)",
        "redis.url: expected a URL such as \"redis://:password@host:6379\", \"redis+sentinel://h1,h2,h3/master\" or \"redis+cluster://h1,h2\" (rediss:// for TLS), found something else (file tidewire.toml:4)",
        "namespaces.a:b: a namespace is 1 to 64 bytes without `:`, `$`, white space or control characters (file tidewire.toml:8)",
        "limits.subscriptions: must be between 1 and 256 (file tidewire.toml:7)",
        "drain.window: draining 100000 connections at 800 a second takes 125s, over the window of 10s; raise drain.rate or drain.window, or lower limits.connections (file tidewire.toml:12)",
        "api_keys.0.key: give either key or key_sha256 (default)",
        "api_keys.0.scopes: a key without scopes can do nothing (file tidewire.toml:14)",
    ];
    let mut errors = errors;
    errors.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(errors, expected);
}

#[test]
fn a_broken_document_is_reported_with_its_line() {
    let errors = errors_of("listen = \n[limits]\nframe = \"1KiB\n", &[]);
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(
        errors.iter().any(
            |error| error.starts_with("not TOML:") && error.ends_with("(file tidewire.toml:1)")
        ),
        "{errors:?}"
    );
}

#[test]
fn a_missing_file_is_an_error_and_not_the_defaults() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere/tidewire.toml")),
        ..Sources::default()
    };
    assert!(
        load(sources)
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}

#[test]
fn the_environment_lies_over_the_file_and_arguments_over_both() {
    let (_folder, mut sources) = sources(
        "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[limits]\npage = 5\n[[api_keys]]\nkey = \"a\"\nscopes = [\"read\"]\n",
    );
    let env = [
        ("TIDEWIRE__DATA_DIR", "env"),
        ("TIDEWIRE__LISTEN", "127.0.0.1:2"),
        ("TIDEWIRE__LIMITS__PAGE", "6"),
        ("TIDEWIRE__NAMESPACES__CHAT__STATE", "true"),
        ("TIDEWIRE__NAMESPACES__CHAT__PRESENCE", "false"),
        ("TIDEWIRE__NAMESPACES__CHAT__ALLOW", "sub, pub"),
        ("TIDEWIRE__API_KEYS__0__KEY", "b"),
        (
            "TIDEWIRE__AUTH__HMAC_SECRET",
            "12345678901234567890123456789012",
        ),
        ("TIDEWIRE_TEST_OTHER", "not ours"),
        ("RUST_LOG", "warn"),
    ];
    sources.env = env
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec();
    let sources = sources.flag("listen", "--listen", Some("127.0.0.1:3".to_owned()));
    let loaded = load(sources).unwrap();
    let config = loaded.config;
    assert_eq!(config.node.listen.port(), 3);
    assert_eq!(config.node.data_dir, PathBuf::from("env"));
    assert_eq!(config.limits.page.get(), 6);
    assert_eq!(config.api_keys[0].key.as_ref().unwrap().expose(), "b");
    let chat = config.namespaces.resolve(&channel("chat:1")).unwrap();
    assert!(chat.state);
    assert_eq!(chat.allow, [Right::Sub, Right::Pub]);
    assert_eq!(config.log.level.0, "warn");
    let shown = print::effective(&loaded.entries);
    assert!(shown.contains("# flag --listen"), "{shown}");
    assert!(shown.contains("# env RUST_LOG"), "{shown}");
    assert!(
        !shown.contains("12345678901234567890123456789012"),
        "{shown}"
    );
}

#[test]
fn what_is_printed_is_read_as_the_same_configuration() {
    let everything = from_toml(EVERYTHING).unwrap();
    let shown = print::effective(&everything.entries);
    assert!(
        !shown.contains("abcdefghijklmnop") && !shown.contains("\"one\""),
        "{shown}"
    );
    let again = from_toml(&shown).unwrap();
    assert_eq!(again.config.namespaces, everything.config.namespaces);
    assert_eq!(again.config.limits, everything.config.limits);
    assert_eq!(again.config.auth.keys, everything.config.auth.keys);
    assert_eq!(again.config.api_keys.len(), 2);
}

#[test]
fn the_defaults_are_a_sound_configuration() {
    let config = load(Sources::default()).unwrap().config;
    assert_eq!(config, Config::default());
    let shown = print::effective(&load(Sources::default()).unwrap().entries);
    assert!(
        shown.contains("[namespaces.default]\nhistory_size = 100 "),
        "{shown}"
    );
    let retention = config
        .namespaces
        .resolve(&channel("news"))
        .unwrap()
        .retention(config.session.ttl);
    assert_eq!(
        (retention.history_size, retention.history_ttl_ms),
        (100, 3_600_000)
    );
    assert_eq!(
        (retention.tombstone_ttl_ms, retention.dedup_ttl_ms),
        (3_600_000, 300_000)
    );
    assert!(!retention.state);
    assert!(config.namespaces.resolve(&channel("orders:1")).is_none());
}

#[test]
fn with_namespaces_configured_names_without_a_colon_need_default() {
    let config = from_toml("[namespaces.chat]\n").unwrap().config;
    assert!(config.namespaces.resolve(&channel("news")).is_none());
    assert!(config.namespaces.resolve(&channel("chat:1")).is_some());
}

#[test]
fn presence_channels_keep_state_alone_and_only_where_it_is_on() {
    let config = from_toml("[namespaces.chat]\npresence = \"count\"\n[namespaces.quiet]\n")
        .unwrap()
        .config;
    let presence = config
        .namespaces
        .resolve(&channel("$presence:chat:1"))
        .unwrap();
    let retention = presence.retention(Duration::from_secs(7_200));
    assert!(retention.state);
    assert_eq!(retention.history_size, 0);
    assert_eq!(retention.tombstone_ttl_ms, 7_200_000);
    assert_eq!(&*presence.name, "chat");
    for none in [
        "$presence:quiet:1",
        "$presence:other:1",
        "$sys:nodes",
        "$presence:$sys:nodes",
        "$presence:",
    ] {
        let resolved = ChannelName::new(none)
            .ok()
            .and_then(|name| config.namespaces.resolve(&name).cloned());
        assert_eq!(resolved, None, "{none}");
    }
}

#[test]
fn a_cluster_secret_is_kept_for_the_next_start_and_only_for_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.node.data_dir = folder.path().join("data");
    let secret = config.cluster_secret().unwrap();
    assert!(!secret.is_weak());
    assert_eq!(config.cluster_secret().unwrap(), secret);
    let file = config.node.data_dir.join(CLUSTER_SECRET_FILE);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::write(&file, "cut sho").unwrap();
    assert!(matches!(
        config.cluster_secret(),
        Err(secret::SecretError::Damaged(_))
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "cut sho");
    assert!(!format!("{secret:?}").contains(secret.expose()));
}

#[test]
fn the_table_names_every_key_once_with_its_default() {
    let table = print::table();
    for row in [
        "| `listen` | `\"0.0.0.0:8080\"` |",
        "| `namespaces.NAME.history_ttl` | `\"1h\"` |",
        "| `api_keys[].scopes` | `[]` |",
        "| `auth.keys[].kid` | unset |",
        "| `auth.hmac_secret` | unset |",
        "| `limits.tails_bytes` | `\"256MiB\"` |",
        "| `storage.sync` | `\"100ms\"` |",
    ] {
        assert_eq!(table.matches(row).count(), 1, "{row}\n{table}");
    }
}

#[test]
fn units_print_as_they_are_written() {
    for text in ["30s", "100ms", "5m", "24h", "7d", "90s"] {
        let span = units::parse_duration(text).unwrap();
        let shown = units::show_duration(span);
        assert_eq!(units::parse_duration(&shown), Some(span), "{text} {shown}");
    }
    for wrong in [
        "",
        "s",
        "1.5h",
        "-1s",
        "1 s",
        "10",
        "9999999999999999999d",
        "99999d",
        "1S",
    ] {
        assert_eq!(units::parse_duration(wrong), None, "{wrong}");
    }
    for (text, bytes) in [("64KiB", 65_536), ("512B", 512), ("2GiB", 2 << 30)] {
        assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)));
        assert_eq!(ByteSize(bytes).to_string(), text);
    }
    assert_eq!(Rate::parse("0/s"), None);
    assert_eq!(Percent::parse("101%"), None);
    assert_eq!(Percent(75).of(1_001), 750);
}

#[test]
fn the_documented_table_is_the_one_that_is_printed() {
    let document = include_str!("../../docs/configuration.md");
    let table = document.find("| key |").map(|at| &document[at..]);
    assert_eq!(
        table,
        Some(&*print::table()),
        "write `tidewire config --table` into docs/configuration.md"
    );
}
