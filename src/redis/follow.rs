//! Which channels of announcements a node hears, and the exact cut at their beginning.
//!
//! Called by `Redis::follow` and `Redis::unfollow`. Owns the list that every lane is rebuilt from:
//! a channel is written down before its subscription is sent, so that no rebuilding misses it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::Value;
use tokio::time::Instant;

use super::{
    Shared,
    call::Interest,
    calls::put,
    error::CallError,
    keyspace::Partition,
    lane::{self, FOLLOW_MAX},
};

impl Shared {
    pub(super) async fn follow_all(
        &self,
        interests: Vec<Interest>,
    ) -> Vec<Result<Value, CallError>> {
        let are_new: Vec<bool> = interests.iter().map(|one| self.note(one)).collect();
        let mut answers = vec![Err(CallError::Lost); interests.len()];
        let mut left: Vec<usize> = (0..interests.len()).collect();
        let deadline = Instant::now() + FOLLOW_MAX;
        while !left.is_empty() {
            let placed = self.attempt_follow(&interests, &left).await;
            put(&mut answers, placed);
            self.read_on_the_way(&interests, &left, &mut answers).await;
            left.retain(|at| matches!(answers.get(*at), Some(Err(error)) if error.is_redirect()));
            if Instant::now() >= deadline {
                break;
            }
            self.redirect(!left.is_empty()).await;
        }
        for ((interest, is_new), answer) in interests.into_iter().zip(are_new).zip(&answers) {
            if is_new && answer.is_err() {
                self.forget(interest.partition, interest.announcements);
            }
        }
        answers
    }

    /// Writes it down. Whether it was not there.
    fn note(&self, interest: &Interest) -> bool {
        let index = self.lane_of(&interest.announcements);
        self.followed.get(index).is_some_and(|followed| {
            let channel = interest.announcements.clone();
            followed
                .lock()
                .insert(channel, interest.partition)
                .is_none()
        })
    }

    async fn attempt_follow(
        &self,
        interests: &[Interest],
        which: &[usize],
    ) -> Vec<(usize, Result<Value, CallError>)> {
        let map = self.map();
        let mut groups: BTreeMap<(Option<usize>, usize), Vec<usize>> = BTreeMap::new();
        for (at, interest) in which
            .iter()
            .filter_map(|at| Some((*at, interests.get(*at)?)))
        {
            let member = map.index_of(interest.partition);
            let lane = self.lane_of(&interest.announcements);
            groups.entry((member, lane)).or_default().push(at);
        }
        let follow = groups.into_iter().map(async |((member, index), places)| {
            let member = member.and_then(|member| map.member(member));
            let lane = member.and_then(|member| member.lanes.get(index));
            let mut answers = Vec::with_capacity(places.len());
            for places in places.chunks(lane::BATCH) {
                let part: Vec<_> = places.iter().filter_map(|at| interests.get(*at)).collect();
                let part = match lane {
                    Some(lane) => lane.follow(&part).await,
                    None => vec![Err(CallError::OutOfReach); part.len()],
                };
                answers.extend(places.iter().copied().zip(part));
            }
            answers
        });
        join_all(follow).await.into_iter().flatten().collect()
    }

    /// Where a slot is on its way the subscription holds but the head must be read elsewhere.
    /// It is read after the subscription, so nothing is missed; some may be heard twice.
    async fn read_on_the_way(
        &self,
        interests: &[Interest],
        which: &[usize],
        answers: &mut [Result<Value, CallError>],
    ) {
        let is_on_the_way = |at: &usize| matches!(answers.get(*at), Some(Err(error)) if error.has_code("ASK") || error.has_code("TRYAGAIN"));
        let places: Vec<_> = which.iter().copied().filter(is_on_the_way).collect();
        if places.is_empty() {
            return;
        }
        let heads = places
            .iter()
            .filter_map(|at| Some(interests.get(*at)?.head.clone()));
        let heads = self.call_all(heads.collect()).await;
        put(answers, places.into_iter().zip(heads).collect());
    }

    /// Hears a channel no more.
    pub(super) fn forget(&self, partition: Partition, announcements: Vec<u8>) {
        let index = self.lane_of(&announcements);
        let Some(followed) = self.followed.get(index) else {
            return;
        };
        let was_followed = followed.lock().remove(&announcements).is_some();
        let map = self.map();
        let lane = map.of(partition).and_then(|member| member.lanes.get(index));
        if let (true, Some(lane)) = (was_followed, lane) {
            lane.leave(announcements);
        }
    }
}
