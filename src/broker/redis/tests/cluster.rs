//! The broker on a Redis Cluster: the duties that partitions and sharded announcements touch.

use std::sync::{Arc, Mutex};

use redis::cmd;

use super::Node;
use crate::{
    broker::{
        Broker,
        contract::{self, Heard, Lab},
    },
    redis::tests::topologies::{Cluster, ask},
};

struct OnCluster {
    cluster: Cluster,
    nodes: Mutex<Vec<Node>>,
}

impl OnCluster {
    /// Ends the nodes and forgets everything, so that the next duty finds nothing.
    fn clear(&self) {
        self.nodes.lock().unwrap().clear();
        for member in &self.cluster.members {
            ask::<()>(member, &cmd("FLUSHALL")).unwrap();
        }
    }
}

impl Lab for OnCluster {
    async fn open(&self, announce: Arc<Heard>) -> Arc<dyn Broker> {
        let node = Node::at(&self.cluster.url(), announce).await;
        let broker = Arc::clone(&node.broker);
        self.nodes.lock().unwrap().push(node);
        broker
    }
}

#[tokio::test]
async fn channels_are_kept_and_announced_over_several_primaries() {
    let lab = OnCluster {
        cluster: Cluster::start(),
        nodes: Mutex::default(),
    };
    contract::a_batch_answers_each_item_on_its_own(&lab).await;
    lab.clear();
    contract::follow_is_the_exact_cut_between_read_and_announced(&lab).await;
    lab.clear();
    contract::unfollowed_channels_are_not_announced(&lab).await;
    lab.clear();
    contract::channels_are_listed_by_prefix_in_name_order(&lab).await;
    lab.clear();
    contract::an_id_is_applied_once_per_channel_and_publisher(&lab).await;
    lab.clear();
    contract::delete_begins_another_life(&lab).await;
    lab.clear();
    contract::blank_keeps_the_offset_and_nothing_else(&lab).await;
    lab.clear();
    contract::everything_of_a_publication_comes_back(&lab).await;
}
