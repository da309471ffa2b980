//! One run of a scenario: everybody starts, works, suffers, recovers, and is judged.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidewire_check::{Channel, Class, Report, Rules, SurvivingLog};
use tokio::{sync::watch, task::JoinSet};

use super::{
    fault::Fault,
    faults::World,
    journal::{Counts, Journal},
    load::{Load, Rate},
    logs,
    nodes::Nodes,
    publisher::{Publisher, Work},
    pulse::{Busy, Pulse},
    reader::Reader,
    scenario::Scenario,
    seeded::Seeded,
    topology::Topology,
};

/// For those who arrive to be live.
const BEGIN_PATIENCE: Duration = Duration::from_secs(180);
/// Subscriptions that are not there yet at any time while everybody arrives: a storm is measured
/// where it is the fault, not before.
const ARRIVING_MAX: usize = 400;
/// By then everything is as it should be after the fault is over.
pub const HEAL_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Clone)]
pub struct Plan {
    pub scenario: Scenario,
    pub seed: u64,
    pub nodes: usize,
    pub clients: usize,
    pub publishers: usize,
    /// Publications a second of all publishers.
    pub rate: f64,
    /// How long the fault goes on; it ends with its last step, so it may take longer.
    pub seconds: f64,
    /// The program under test.
    pub program: PathBuf,
    /// Says how far it is.
    pub progress: bool,
}

impl Plan {
    /// The scenario at full size.
    pub const fn of(scenario: Scenario, seed: u64, program: PathBuf) -> Self {
        Self {
            scenario,
            seed,
            nodes: 3,
            clients: scenario.size.clients,
            publishers: scenario.size.publishers,
            rate: scenario.size.rate,
            seconds: 30.0,
            program,
            progress: true,
        }
    }
}

/// What came of it.
pub struct Outcome {
    pub counts: Counts,
    /// Acknowledged and not in the log.
    pub lost: usize,
    /// From the end of the fault until every reader had what was published after it. None: not
    /// in time.
    pub recovery: Option<Duration>,
    /// What Redis did a second before the fault, and during it.
    pub load: (Option<Rate>, Option<Rate>),
    /// How busy the machine was.
    pub busy: Busy,
    pub report: Report,
    /// What else is wrong: nodes that ended, clients that were refused.
    pub troubles: Vec<String>,
    /// Where the logs of all processes are, if something is wrong.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.report.is_clean() && self.troubles.is_empty() && self.recovery.is_some()
    }

    /// Publications that somebody got twice, or that the log holds twice.
    pub fn repeated(&self) -> usize {
        let of = |class| self.report.counts.get(&class).copied().unwrap_or(0);
        of(Class::Repeat) + of(Class::TwiceInLog)
    }
}

/// Who works in a run.
struct Crowd {
    readers: JoinSet<()>,
    publishers: JoinSet<()>,
    work: watch::Sender<Work>,
}

/// Runs it. Panics where the stage itself fails: no Redis, a node that does not start.
pub async fn run(plan: &Plan) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("tidewire-chaos-")
        .tempdir()
        .unwrap();
    // A panic on the way keeps the logs as well.
    let mut stage = Stage::set(plan, folder).await;
    let outcome = stage.play(plan).await;
    stage.leave(outcome)
}

struct Stage {
    world: World,
    load: Load,
    pulse: Pulse,
    journal: Arc<Journal>,
    channels: Arc<Vec<String>>,
    crowd: Crowd,
    folder: Option<TempDir>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("logs of the processes: {}", folder.keep().display());
        }
    }
}

impl Stage {
    async fn set(plan: &Plan, folder: TempDir) -> Self {
        let scenario = plan.scenario;
        let root = folder.path();
        let topology = Topology::start(scenario.layout, root, plan.nodes, scenario.durable).await;
        let urls: Vec<String> = (0..plan.nodes).map(|node| topology.url(node)).collect();
        let class = scenario.acknowledge;
        let mut nodes = Nodes::configure(&plan.program, root, &urls, class);
        if scenario.wrongs().contains(&Fault::NodeClock) {
            nodes.with_clocks();
        }
        nodes.start_all().await;
        let size = scenario.size;
        let logs = (0..size.logs).map(|number| format!("log:{number}"));
        let boards = (0..size.boards).map(|number| format!("board:{number}"));
        let channels: Vec<String> = logs.chain(boards).collect();
        let load = Load::watch(topology.ports());
        let world = World {
            topology,
            nodes,
            random: Seeded(plan.seed | 1),
            channels: channels.clone(),
            until: Instant::now(),
            wakes: watch::Sender::new(0),
            troubles: Vec::new(),
        };
        let (work, _) = watch::channel(Work::Publish);
        let rules = Rules {
            may_lose_tails: scenario.may_lose,
        };
        let journal = Journal::new(rules, &channels);
        Self {
            world,
            load,
            pulse: Pulse::watch(),
            journal,
            channels: Arc::new(channels),
            crowd: Crowd {
                readers: JoinSet::new(),
                publishers: JoinSet::new(),
                work,
            },
            folder: Some(folder),
        }
    }

    async fn play(&mut self, plan: &Plan) -> Outcome {
        let journal = Arc::clone(&self.journal);
        let say = |text: &str| {
            if plan.progress {
                let counts = journal.counts();
                eprintln!(
                    "  {:<20} {text}: {} acknowledged, {} delivered, {} resumes, {} violations",
                    plan.scenario.title(),
                    counts.acknowledged,
                    counts.delivered,
                    counts.resumes,
                    journal.violations()
                );
            }
        };
        say("starting");
        let readers = self.start_readers(plan).await;
        self.start_publishers(plan);
        say(&format!("{readers} subscriptions are live"));
        let steady = Instant::now();
        tokio::time::sleep(plan.scenario.size.steady).await;
        say("the fault begins");
        let begun = Instant::now();
        self.world.until = begun + Duration::from_secs_f64(plan.seconds);
        self.world.suffer(&plan.scenario.wrongs()).await;
        say("the fault is over");
        let healed = Instant::now();
        let recovery = self.recovers(plan).await;
        say("recovered");
        let unanswered = self.finish().await;
        let logs = self.settle().await;
        say("settled");
        let load = (
            self.load.rate(steady, begun),
            self.load.rate(begun, healed + recovery.unwrap_or(HEAL_MAX)),
        );
        let lost = self.journal.lost(&logs);
        let mut troubles = self.troubles(plan.scenario, load, lost);
        troubles.extend(unanswered);
        Outcome {
            counts: self.journal.counts(),
            lost,
            recovery,
            load,
            busy: self.pulse.busy(),
            report: self.journal.verdict(&logs),
            troubles,
            kept: None,
        }
    }

    /// What is wrong besides what the checker and the recovery say.
    fn troubles(
        &mut self,
        scenario: Scenario,
        load: (Option<Rate>, Option<Rate>),
        lost: usize,
    ) -> Vec<String> {
        let mut troubles = self.world.nodes.fallen();
        troubles.append(&mut self.world.troubles);
        troubles.extend(self.journal.troubles());
        troubles.extend(scenario.overload(load));
        let counts = self.journal.counts();
        let reconnects = counts.resumes + counts.sessions_lost;
        if scenario.spares_nodes() && reconnects > 0 {
            troubles.push(format!("{reconnects} reconnects though every node went on"));
        }
        if scenario.acknowledge == "replicated" && lost > 0 {
            troubles.push(format!("{lost} lost though a replica had them"));
        }
        troubles
    }

    /// Starts the readers and waits until all are live; answers how many subscriptions there are.
    async fn start_readers(&mut self, plan: &Plan) -> usize {
        let (mut expected, size) = (0, plan.scenario.size);
        for number in 0..plan.clients {
            let logs = (0..size.reads - 1).map(|step| (number * 5 + step * 3) % size.logs);
            let mut channels: Vec<String> = logs.map(|at| self.channels[at].clone()).collect();
            channels.push(self.channels[size.logs + number % size.boards].clone());
            expected += channels.len();
            let urls = self.world.nodes.sockets_from(number % plan.nodes);
            let reader = Reader::new(
                number,
                &urls,
                channels,
                Arc::clone(&self.journal),
                self.world.wakes.subscribe(),
            );
            self.crowd.readers.spawn(reader.follow());
            self.follow(expected - ARRIVING_MAX.min(expected)).await;
        }
        self.follow(expected).await;
        expected
    }

    /// Waits until there are so many subscriptions.
    async fn follow(&self, count: usize) {
        let begun = Instant::now();
        while self.journal.following() < count {
            let following = self.journal.following();
            assert!(begun.elapsed() < BEGIN_PATIENCE, "{following} of {count}");
            tokio::time::sleep(POLL).await;
        }
    }

    fn start_publishers(&mut self, plan: &Plan) {
        let pause = Duration::from_secs_f64(plan.publishers as f64 / plan.rate);
        for number in 0..plan.publishers {
            let publisher = self.publisher(number as u64, pause);
            let first = number / 2 % plan.nodes;
            if number % 2 == 0 {
                let urls = self.publish_urls(plan, first);
                self.crowd.publishers.spawn(publisher.by_http(urls));
            } else {
                let urls = self.world.nodes.sockets_from(first);
                self.crowd.publishers.spawn(publisher.by_socket(urls));
            }
        }
    }

    fn publisher(&self, number: u64, pause: Duration) -> Publisher {
        let (channels, journal) = (Arc::clone(&self.channels), Arc::clone(&self.journal));
        let work = self.crowd.work.subscribe();
        Publisher::new(number, channels, pause, journal, work)
    }

    /// Where backends publish: every node, this one first.
    fn publish_urls(&self, plan: &Plan, first: usize) -> Vec<String> {
        let order = (0..plan.nodes).map(|step| (first + step) % plan.nodes);
        let url = |node| self.world.nodes.url(node, "/v1/publish");
        order.map(url).collect()
    }

    /// How long it takes until something published in every channel now is with every reader.
    async fn recovers(&mut self, plan: &Plan) -> Option<Duration> {
        let begun = Instant::now();
        let channels: Vec<Channel> = self
            .channels
            .iter()
            .map(|name| self.journal.channel(name))
            .collect();
        self.journal.mark();
        let (number, pause) = (plan.publishers as u64, Duration::ZERO);
        let probe = self.publisher(number, pause);
        let urls = self.publish_urls(plan, 0);
        self.crowd
            .publishers
            .spawn(async move { probe.probe(&urls).await });
        while begun.elapsed() < HEAL_MAX {
            if self.journal.lagging(&channels) == (0, 0) {
                return Some(begun.elapsed());
            }
            tokio::time::sleep(POLL).await;
        }
        eprintln!(
            "not recovered: (channels without a publication, readers behind) = {:?}",
            self.journal.lagging(&channels)
        );
        None
    }

    /// Lets publishers finish what they have begun; those that cannot are named.
    async fn finish(&mut self) -> Vec<String> {
        self.crowd.work.send_replace(Work::Finish);
        let all = async {
            while let Some(ended) = self.crowd.publishers.join_next().await {
                ended.expect("no publisher panics");
            }
        };
        match tokio::time::timeout(HEAL_MAX, all).await {
            Ok(()) => Vec::new(),
            Err(_) => {
                let left = self.crowd.publishers.len();
                vec![format!("{left} publishers wait for an answer")]
            }
        }
    }

    /// Waits until every reader is where the logs end, as long as it may; answers the logs.
    async fn settle(&self) -> BTreeMap<Channel, SurvivingLog> {
        let url = self.world.nodes.url(0, "");
        let until = Instant::now() + HEAL_MAX;
        loop {
            let heads = logs::heads(&url, &self.channels, &self.journal).await;
            if self.journal.behind(&heads) == 0 || Instant::now() > until {
                return logs::read(&url, &self.channels, &self.journal).await;
            }
            tokio::time::sleep(POLL * 10).await;
        }
    }

    /// Ends everybody; keeps the logs of a run that went wrong.
    fn leave(mut self, mut outcome: Outcome) -> Outcome {
        if !outcome.is_good() {
            outcome.kept = self.folder.take().map(TempDir::keep);
        }
        outcome
    }
}
