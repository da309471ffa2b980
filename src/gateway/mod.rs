//! Sockets: the upgrade, one reading task per connection, and the delivery core.
//!
//! Owns every connection and which session lives on which. Called by the HTTP router; calls
//! `feed`, `store`, `auth` and `presence`. Nothing outside knows the WebSocket library.

mod admission;
mod answer;
mod checkpoints;
mod commands;
mod connection;
mod deliver;
mod drain;
mod ending;
mod forwarded;
mod gate;
mod hello;
pub mod known;
mod load;
#[cfg(test)]
pub mod memory;
mod orders;
mod pacer;
mod pages;
mod place;
mod publish;
mod read;
mod refresh;
mod socket;
mod stale;
mod subscribe;
#[cfg(test)]
mod tests;
mod upgrade;
mod websocket;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use tidewire_protocol::{ChannelName, CloseCode, Name};
use tokio::sync::{Semaphore, SetOnce};

pub use self::{
    admission::Admission,
    connection::Connection,
    socket::prepare,
    upgrade::{ClientAddress, connect, connect_operator},
};
use self::{checkpoints::Checkpoints, connection::ConnectionId, gate::Gate};
#[cfg(test)]
pub use self::{socket::memory as memory_socket, upgrade::serve};
use crate::{
    auth::{AuthError, Authenticator, Identity, OperatorTokens, Origins, SessionKeys},
    clock,
    config::{Config, Namespace, Namespaces},
    control::{Control, Lease},
    feed::Feed,
    presence::{Change, Membership, Owner, Presence},
    session::{Event, Member, What},
    store::{Checkpoint, CheckpointStore, Fence, SessionId, StoreError, Write},
    tasks::Tasks,
    telemetry::{labels::PublicationSource, metrics::Metrics, spans::Tracer},
};

/// Questions of other nodes answered at once: each looks at every session in turn.
const QUESTIONS_MAX: usize = 4;

/// What the gateway is built from.
#[derive(Debug)]
pub struct Parts {
    pub node: Name,
    pub config: Arc<Config>,
    pub namespaces: Arc<Namespaces>,
    pub feed: Feed,
    pub store: Arc<dyn CheckpointStore>,
    pub presence: Arc<Presence>,
    pub authenticator: Authenticator,
    pub control: Arc<Control>,
    pub session_keys: SessionKeys,
    pub operators: OperatorTokens,
    pub origins: Origins,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    pub tasks: Tasks,
}

/// The node's connections and what they work with.
#[derive(Debug)]
pub struct Gateway {
    parts: Parts,
    pub admission: Admission,
    gate: Arc<Gate>,
    checkpoints: Checkpoints,
    sessions: DashMap<SessionId, Arc<Connection>>,
    /// How many questions of other nodes may be answered at once.
    questions: Arc<Semaphore>,
    /// Told when an operator wants the node gone.
    dismissed: SetOnce<()>,
    last_id: AtomicU64,
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Gateway {
    pub fn new(parts: Parts) -> Arc<Self> {
        let limits = &parts.config.limits;
        let admission = Admission::new(limits);
        let resumes = usize::try_from(limits.resumes.get()).unwrap_or(usize::MAX);
        let gate = Arc::new(Gate::new(resumes));
        Arc::new(Self {
            parts,
            admission,
            gate,
            checkpoints: Checkpoints::default(),
            sessions: DashMap::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            dismissed: SetOnce::new(),
            last_id: AtomicU64::new(0),
        })
    }

    /// Starts what runs beside the connections.
    pub fn start(self: &Arc<Self>) {
        self.tasks
            .spawn_until_stop(checkpoints::run(Arc::clone(self)));
        self.tasks
            .spawn_until_stop(checkpoints::extend(Arc::clone(self)));
        self.tasks.spawn_until_stop(stale::run(Arc::clone(self)));
        self.tasks
            .spawn_until_stop(orders::to_all(Arc::clone(self)));
        self.tasks
            .spawn_until_stop(orders::to_this_node(Arc::clone(self)));
        let gateway = Arc::clone(self);
        self.tasks
            .spawn_until_stop(async move { gateway.control.run_outbox().await });
        self.tasks
            .spawn_until_stop(Arc::clone(&self.presence).run());
    }

    /// How many sessions have a connection here.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The connection a session lives on.
    pub fn connection_of(&self, session: &SessionId) -> Option<Arc<Connection>> {
        self.sessions
            .get(session)
            .map(|connection| Arc::clone(&connection))
    }

    /// Every connection with a session, oldest first: what is done to them in turn does not depend
    /// on chance.
    fn connections(&self) -> Vec<Arc<Connection>> {
        let held = self.sessions.iter();
        let mut connections: Vec<_> = held.map(|entry| Arc::clone(entry.value())).collect();
        connections.sort_unstable_by_key(|connection| connection.id);
        connections
    }

    fn session_ids(&self) -> Vec<SessionId> {
        let held = self.sessions.iter();
        let mut ids: Vec<_> = held.map(|entry| entry.key().clone()).collect();
        ids.sort_unstable();
        ids
    }

    fn session_ttl_ms(&self) -> u64 {
        u64::try_from(self.config.session.ttl.as_millis()).unwrap_or(u64::MAX / 4)
    }

    fn next_id(&self) -> ConnectionId {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A session opened on this connection; of two that claimed it at once, the higher attempt
    /// stays.
    fn register(&self, session: &SessionId, connection: &Arc<Connection>) {
        let attempt_of =
            |connection: &Connection| connection.with_session(|session| session.fence.attempt);
        let mut loser = None;
        self.sessions
            .entry(session.clone())
            .and_modify(|held| {
                let newer = attempt_of(held) > attempt_of(connection);
                loser = Some(if newer {
                    Arc::clone(connection)
                } else {
                    std::mem::replace(held, Arc::clone(connection))
                });
            })
            .or_insert_with(|| Arc::clone(connection));
        self.metrics.sessions.set(self.sessions.len() as f64);
        if let Some(loser) = loser {
            let attempt = self
                .connection_of(session)
                .and_then(|winner| attempt_of(&winner));
            loser.close(CloseCode::Replaced, None, attempt);
        }
    }

    /// Before a claim with `fence`: the present owner on this node writes down what it knows, so
    /// that the new one finds it. Answers the owner.
    async fn write_down_for(&self, session: &SessionId, fence: Fence) -> Option<Arc<Connection>> {
        checkpoints::write_kept(self, session).await;
        let owner = self.connection_of(session)?;
        let older = owner.with_session(|held| held.fence.attempt < fence.attempt)?;
        if older && let Some(write) = checkpoints::write_of(self, &owner, true) {
            for refused in self
                .store
                .write(vec![write])
                .await
                .into_iter()
                .filter_map(Result::err)
            {
                tracing::debug!(error = %refused, "the owner of a session could not write it down");
            }
        }
        Some(owner)
    }

    /// Stores a session that begins, so that a killed node loses none it welcomed.
    async fn write_first(&self, session: &SessionId, fence: Fence) -> Result<(), StoreError> {
        let checkpoint = Checkpoint {
            fence,
            body: bytes::Bytes::new(),
        };
        let write = Write {
            session: session.clone(),
            checkpoint,
            ttl_ms: 2 * self.session_ttl_ms(),
            connected: true,
        };
        self.store
            .write(vec![write])
            .await
            .pop()
            .unwrap_or(Err(StoreError::Unavailable))
    }

    /// The connection ended: its session goes into the store and its members wait out their
    /// grace. A session that was taken over is left to its new owner.
    async fn end(&self, connection: &Arc<Connection>) {
        // A node that leaves writes sessions down before it tells their clients.
        let leaving = || self.admission.is_draining().then_some(CloseCode::Draining);
        let code = connection.closing().or_else(leaving);
        let code = code.map(CloseCode::number);
        let ended = What::Closed { code };
        connection.with_session(|session| session.events.push(self.event(ended)));
        let write = checkpoints::write_of(self, connection, false);
        let Some(mut session) = connection.take_session() else {
            return;
        };
        self.sessions
            .remove_if(&session.id, |_, held| held.id == connection.id);
        self.metrics.sessions.set(self.sessions.len() as f64);
        let members = memberships(subscribe::detach(connection, &mut session));
        let owner = Owner {
            session: session.id,
            fence: session.fence,
        };
        let moved = match write {
            Some(write) => checkpoints::write_last(self, write).await,
            None => false,
        };
        if moved {
            self.presence.moved(&owner, members).await;
        } else {
            self.presence.leave_later(owner, members);
        }
    }

    /// Something that happened to a session here and now.
    fn event(&self, what: What) -> Event {
        Event {
            at: clock::now_ms(),
            node: Box::from(self.node.as_str()),
            what,
        }
    }

    /// The client left: nothing of its session stays.
    async fn forget(&self, connection: &Arc<Connection>) {
        let Some(mut session) = connection.take_session() else {
            return;
        };
        self.sessions
            .remove_if(&session.id, |_, held| held.id == connection.id);
        self.metrics.sessions.set(self.sessions.len() as f64);
        let members = memberships(subscribe::detach(connection, &mut session));
        let owner = Owner {
            session: session.id.clone(),
            fence: session.fence,
        };
        let leaves = members.into_iter().map(Change::Leave).collect();
        self.presence.apply(&owner, leaves).await;
        if let Err(error) = self.store.remove(&session.id, session.fence).await {
            tracing::debug!(%error, "a session that left could not be removed; it expires");
        }
    }

    /// Who a client is, by a token that nobody withdrew. A node that cannot tell says so.
    async fn identify(&self, token: Option<&str>) -> Result<Identity, AuthError> {
        let now_ms = clock::wall_ms();
        let identity = match token {
            Some(token) if OperatorTokens::is_meant(token) => {
                self.operators.identify(token, now_ms)?
            }
            Some(_) | None => self.authenticator.identify(token, now_ms).await?,
        };
        if !self.control.verified().await {
            return Err(AuthError::Unverified);
        }
        if self.control.shuts_out(&identity) {
            return Err(AuthError::Revoked);
        }
        Ok(identity)
    }

    /// The node leaves: clients are moved to other nodes, or sent away where there are none.
    /// Takes at most the configured window, and what it takes to write the rest down.
    pub async fn leave(self: &Arc<Self>) {
        drain::run(self).await;
    }

    /// An operator wants the node to leave: whoever runs it is told, once.
    fn dismiss(&self) {
        if self.dismissed.set(()).is_ok() {
            tracing::info!("an operator wants this node to leave");
        }
    }

    /// Resolves when an operator wants the node to leave. Cancel-safe.
    pub async fn dismissed(&self) {
        self.dismissed.wait().await;
    }

    /// How many hellos wait for their turn.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// Tells a client without a session that the node leaves, and when to come back.
    fn send_away(&self, connection: &Arc<Connection>) {
        drain::send_away(self, connection, self.admission.connections());
    }

    /// What this node says of itself to the others.
    pub fn lease(&self, started_ms: u64, address: &str) -> Lease {
        Lease {
            started: started_ms,
            address: address.to_owned(),
            connections: self.admission.connections(),
            sessions: self.sessions(),
            draining: false,
            observed: false,
            row: None,
        }
    }

    /// Takes the measures nobody else reports: whether the broker answers, and how long moving
    /// every connection away would take.
    pub async fn gauge(&self) {
        // A question about no channel is not sent to Redis: its own probes say whether that answers.
        let reached = !self.feed.logs().doubts().is_lost();
        let answers = reached && self.feed.heads(&[]).await.is_ok();
        self.metrics.broker_up.set(f64::from(u8::from(answers)));
        let rate = f64::from(self.config.drain.rate.get());
        let connections = self.admission.connections() as f64;
        self.metrics.drain_seconds_needed.set(connections / rate);
    }

    /// Once a heartbeat of a connection: how far its session is behind.
    fn heartbeat(&self, connection: &Connection) {
        if let Some(lag) = connection.with_session(|session| session.lag()) {
            self.metrics.lag_publications.record(lag as f64);
        }
    }

    /// Counts an accepted publication under its namespace.
    pub fn count_publication(&self, namespace: &Namespace, source: PublicationSource) {
        if let Some(counts) = self.metrics.namespace(namespace) {
            counts.publications.count(source);
        }
    }
}

fn memberships(members: Vec<(ChannelName, Box<Member>)>) -> Vec<Membership> {
    let membership = |(channel, member)| Membership { channel, member };
    members.into_iter().map(membership).collect()
}
