//! What presence owes: changes the broker did not take, leaves whose grace is over, and members
//! to be put in place again.
//!
//! Called each second by `presence`. Everything stays owed until broker and store have answered.

use tidewire_protocol::{ChannelName, Name, command::Guard};

use super::{
    Ended, GRACE, Living, Membership, Owner, Presence, Step,
    leave::{Leaving, Left},
    roster,
};

/// Most changes owed. Past it the oldest are dropped: what was entered is said again with the
/// next claim, what left is swept with this node's list.
const OWED_MAX: usize = 262_144;
/// Members looked at in one round: 512 a second, so that a cluster whose broker came back is not
/// busy with presence alone.
const ROUND_MAX: usize = 512;

/// What is to be said of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// That it is here, if it still is.
    Enter,
    /// That it left, if it is not here.
    Leave,
    /// That it is off this node's list.
    Off,
}

impl Presence {
    pub(super) fn owe(&self, of: (ChannelName, Name), owed: Owed) {
        let mut all = self.owed.lock();
        if all.len() >= OWED_MAX {
            all.pop_first();
        }
        all.insert(of, owed);
    }

    /// Everything that lives here is to be put in place again.
    pub(super) fn owe_all(&self) {
        for room in &self.rooms {
            let listed = room.iter().filter(|(_, living)| living.listed);
            listed.for_each(|(key, _)| {
                self.owe((room.key().clone(), key.clone()), Owed::Enter);
            });
        }
    }

    /// Says what is owed.
    pub(super) async fn settle(&self) {
        let mut owed = Vec::new();
        {
            let mut all = self.owed.lock();
            while owed.len() < ROUND_MAX
                && let Some(entry) = all.pop_first()
            {
                owed.push(entry);
            }
        }
        if owed.is_empty() {
            return;
        }
        let mut step = Step::default();
        let (mut entering, mut living) = (Vec::new(), Vec::new());
        for ((channel, key), owed) in owed {
            let here = self
                .rooms
                .get(&channel)
                .and_then(|room| room.get(&key).cloned());
            match (owed, here) {
                (_, Some(here)) if here.listed => {
                    entering.push(leaving(&channel, &key, &here));
                    living.push(here);
                }
                (Owed::Enter | Owed::Off, _) | (Owed::Leave, Some(_)) => {
                    let off = roster::publish(&self.node, &channel, &key, None);
                    step.push(&(channel, key), Owed::Off, off);
                }
                (Owed::Leave, None) => {
                    let of = (channel, key);
                    step.push(&of, Owed::Leave, self.said(&of.0, &of.1, None, None));
                    let off = roster::publish(&self.node, &of.0, &of.1, None);
                    step.push(&of, Owed::Leave, off);
                }
            }
        }
        // A node that was frozen may find its sessions claimed: then they are not its to show.
        for ((member, here), left) in entering.iter().zip(living).zip(self.look(&entering).await) {
            let of = (member.channel.clone(), member.key.clone());
            match left {
                Left::Gone => {
                    let on = roster::publish(&self.node, &of.0, &of.1, Some(&here.owner));
                    step.push(&of, Owed::Enter, on);
                    let me = Some(here.me);
                    let said = self.said(&of.0, &of.1, me, Some(Guard::Absent));
                    step.push(&of, Owed::Enter, said);
                }
                Left::Stays => {}
                Left::Unknown => self.owe(of, Owed::Enter),
            }
        }
        self.take(step).await;
    }

    /// Lets members leave whose grace is over, once everyone had that long to come back.
    pub(super) async fn leave_due(&self) {
        if self.nodes.watched() < GRACE {
            return;
        }
        let (mut listed, mut counted) = (Vec::new(), Vec::new());
        for ended in self.take_due() {
            for membership in &ended.members {
                let (channel, key) = (&membership.channel, &membership.member.key);
                let room = self.rooms.get(channel);
                let here = room.and_then(|room| room.get(key).cloned());
                let here = here.filter(|here| here.owner.fence == ended.owner.fence);
                match here.map(|here| (here.listed, leaving(channel, key, &here))) {
                    Some((true, member)) => listed.push((ended.clone_of(membership), member)),
                    Some((false, member)) => counted.push((ended.clone_of(membership), member)),
                    None => {}
                }
            }
        }
        let (listed, members): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        let outcomes = self.remove(&members).await;
        let left = listed.into_iter().zip(outcomes);
        let (counted, members): (Vec<_>, Vec<_>) = counted.into_iter().unzip();
        let looks = self.look(&members).await;
        self.let_go(left.chain(counted.into_iter().zip(looks)))
            .await;
    }

    fn take_due(&self) -> Vec<Ended> {
        let (mut due, mut count) = (Vec::new(), 0);
        let mut ended = self.ended.lock();
        while count < ROUND_MAX
            && ended
                .front()
                .is_some_and(|first| first.since.elapsed() >= GRACE)
            && let Some(first) = ended.pop_front()
        {
            count += first.members.len();
            due.push(first);
        }
        due
    }

    /// Lets go of members that left or live elsewhere; what nobody knows yet stays due.
    async fn let_go(&self, outcomes: impl Iterator<Item = (Ended, Left)>) {
        let mut step = Step::default();
        for (ended, left) in outcomes {
            if left == Left::Unknown {
                self.ended.lock().push_front(ended);
            } else {
                self.off(&mut step, &ended.owner, ended.members);
            }
        }
        self.take(step).await;
    }

    /// Takes members that still are this claim's out of their rooms and off the list.
    pub(super) fn off(&self, step: &mut Step, owner: &Owner, members: Vec<Membership>) {
        for Membership { channel, member } in members {
            if !self.is_owner(owner, &channel, &member.key) {
                continue;
            }
            match self.forget(&channel, &member.key) {
                Some(living) if living.listed => {
                    let off = roster::publish(&self.node, &channel, &member.key, None);
                    step.push(&(channel, member.key), Owed::Off, off);
                }
                Some(_) | None => {
                    step.counts.insert(channel);
                }
            }
        }
    }
}

impl Ended {
    /// One of its memberships on its own.
    fn clone_of(&self, membership: &Membership) -> Self {
        Self {
            since: self.since,
            owner: self.owner.clone(),
            members: vec![membership.clone()],
        }
    }
}

fn leaving(channel: &ChannelName, key: &Name, living: &Living) -> Leaving {
    Leaving {
        channel: channel.clone(),
        key: key.clone(),
        me: Some(living.me.clone()),
        session: living.owner.session.clone(),
        attempt: living.owner.fence.attempt,
        at: None,
    }
}
