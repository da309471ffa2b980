//! Counted instructions: what a release node executes in user space for each connect, resume,
//! publication and delivery, and what the codec does for each frame.
//!
//! Runs everything under callgrind, so no figure depends on the load of the machine. Each is the
//! difference between two runs that differ in nothing but the number of the thing counted.
//! Compared with `baseline.toml`, which holds for one compiler and one kind of processor.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tempfile::TempDir;
use tidewire_protocol::{Encoding, Publication, decode, encode};

use super::{
    connect,
    fanout::{self, Load},
    readers::Count,
    server::{Program, Server},
    socket,
};

/// More instructions than this over the baseline, in parts of it, fail the comparison: room for
/// what the order of threads makes of a run.
const TOLERANCE: f64 = 0.05;
/// Publications a second while they are counted: the node under callgrind keeps up.
const RATE: usize = 100;
const CONNECTS: usize = 200;
const PUBLICATIONS: usize = 200;
const CROWD: usize = 101;
/// Frames of one run of the codec; the other has twice as many.
const FRAMES: usize = 2_000;

type Figures = BTreeMap<String, f64>;

/// Counts, and compares with the baseline or writes it.
pub async fn run(writes: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut figures = node(&folder).await;
    for kind in CODECS {
        let [once, twice] = [FRAMES, 2 * FRAMES].map(|frames| counted_codec(kind, frames, &folder));
        figures.insert(format!("codec.{kind}"), (twice - once) / FRAMES as f64);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/node/baseline.toml");
    if writes {
        let figures: BTreeMap<_, _> = figures
            .iter()
            .map(|(name, count)| (name, count.round()))
            .collect();
        fs::write(&file, toml::to_string(&figures).unwrap()).unwrap();
    }
    let baseline: Figures = toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let mut over = Vec::new();
    for (name, count) in &figures {
        let change = count / baseline.get(name).copied().unwrap_or(f64::NAN) - 1.0;
        println!(
            "count: {name}: {count:.0} instructions, {:+.1} %",
            change * 100.0
        );
        if change.is_nan() || change > TOLERANCE {
            over.push(name);
        }
    }
    assert!(
        over.is_empty(),
        "more than {:.0} % over the baseline: {over:?}",
        TOLERANCE * 100.0
    );
}

/// A node under callgrind, counted phase by phase.
async fn node(folder: &TempDir) -> Figures {
    let out = folder.path().join("node.out");
    let server = Server::run(&Program::CountedNode(out.clone())).await;
    let count = Arc::new(Count::default());
    let load = |channels, readers| Load {
        channels,
        readers,
        rate: RATE,
        seconds: 0,
    };
    let (alone, crowd) = (load(1, 1), load(1, CROWD));
    // Whatever is done for the first time is not counted.
    drop(connect::open(&server, 0..CONNECTS).await);
    let mut phases = Phases {
        server: &server,
        out,
        number: 0,
    };

    phases.begin();
    let held = connect::open(&server, 0..CONNECTS).await;
    let connects = phases.end() / CONNECTS as f64;
    drop(held);

    fanout::subscribe(&server, alone, &count).await;
    let mut publisher = socket::publisher(server.address, &super::server::token()).await;
    fanout::publish(&mut publisher, alone, PUBLICATIONS, &count).await;
    phases.begin();
    fanout::publish(&mut publisher, alone, PUBLICATIONS, &count).await;
    let publication = phases.end() / PUBLICATIONS as f64;

    fanout::subscribe(&server, load(1, CROWD - 1), &count).await;
    fanout::publish(&mut publisher, crowd, PUBLICATIONS, &count).await;
    phases.begin();
    fanout::publish(&mut publisher, crowd, PUBLICATIONS, &count).await;
    let crowded = phases.end() / PUBLICATIONS as f64;
    let resumes = resumes(&server, &mut phases).await;
    Figures::from([
        ("connect".to_owned(), connects),
        ("resume".to_owned(), resumes),
        ("publication".to_owned(), publication),
        (
            "delivery".to_owned(),
            (crowded - publication) / (CROWD - 1) as f64,
        ),
    ])
}

/// Sessions that come back: claimed, and read on from where they were.
async fn resumes(server: &Server, phases: &mut Phases<'_>) -> f64 {
    let token = super::server::token();
    let mut hellos = Vec::with_capacity(CONNECTS);
    for _ in 0..CONNECTS {
        let hello = socket::hello(&token, &["resumed"]);
        let live = (r#""t":"live""#, 1);
        let (stream, seen) = socket::open_and_see(server.address, &hello, live).await;
        let field = |name: &str| {
            let (_, after) = seen.split_once(name).unwrap();
            after.split('"').next().unwrap().to_owned()
        };
        let (id, key) = (field(r#""session":{"id":""#), field(r#""key":""#));
        hellos.push(format!(
            r#"{{"t":"hello","token":"{token}","session":{{"id":"{id}","key":"{key}","attempt":9000000000000000}}}}"#
        ));
        drop(stream);
    }
    phases.begin();
    for hello in &hellos {
        drop(socket::open(server.address, hello, r#""t":"live""#).await);
    }
    phases.end() / CONNECTS as f64
}

/// Switches counting on and off in a node under callgrind.
struct Phases<'a> {
    server: &'a Server,
    out: PathBuf,
    number: usize,
}

impl Phases<'_> {
    fn begin(&self) {
        self.control("--instr=on");
    }

    /// Instructions since `begin`.
    fn end(&mut self) -> f64 {
        self.control("--instr=off");
        self.control("--dump");
        self.number += 1;
        let dump = format!("{}.{}", self.out.display(), self.number);
        instructions(Path::new(&dump))
    }

    fn control(&self, order: &str) {
        let mut command = Command::new("callgrind_control");
        let output = command
            .arg(order)
            .arg(self.server.id().to_string())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The total of one of callgrind's files, all threads together: the sum of its functions' own.
fn instructions(file: &Path) -> f64 {
    let output = Command::new("callgrind_annotate")
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.contains("PROGRAM TOTALS"))
        .unwrap_or_else(|| panic!("no total in {}", file.display()));
    let number = line.split_whitespace().next().unwrap().replace(',', "");
    number.parse().unwrap()
}

const CODECS: [&str; 4] = [
    "encode-json",
    "encode-msgpack",
    "decode-json",
    "decode-msgpack",
];

fn counted_codec(kind: &str, frames: usize, folder: &TempDir) -> f64 {
    let out = folder.path().join("codec.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["codec", kind, &frames.to_string()]);
    assert!(command.status().unwrap().success());
    instructions(&out)
}

/// Encodes or decodes one frame many times, for `counted_codec`.
pub fn codec(kind: &str, frames: usize) {
    let encoding = if kind.ends_with("json") {
        Encoding::Json
    } else {
        Encoding::MessagePack
    };
    let data = format!(r#""{}""#, "x".repeat(128));
    let command = format!(r#"{{"t":"pub","i":7,"ch":"room:1","d":{data}}}"#);
    let mut bytes = Vec::new();
    let decoded = decode::commands(Encoding::Json, command.as_bytes()).unwrap();
    decoded[0].encode(encoding, &mut bytes);
    let tidewire_protocol::Command::Pub(publish) = &decoded[0] else {
        panic!("a pub is a pub");
    };
    let publication = Publication {
        offset: 1_000_000,
        ts: 1_764_259_200_000,
        payload: publish.payload.clone(),
        key: None,
        event: None,
        id: None,
        by: None,
        deleted: false,
        expires: None,
    };
    let mut out = Vec::with_capacity(1024);
    for _ in 0..frames {
        if kind.starts_with("encode") {
            out.clear();
            encode::msg(encoding, &publish.channel, &publication, &mut out);
            std::hint::black_box(&out);
        } else {
            let decoded = decode::commands(encoding, std::hint::black_box(&bytes)).unwrap();
            assert_eq!(decoded.len(), 1);
        }
    }
}
