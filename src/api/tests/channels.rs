//! History, state and presence; listing, deleting and blanking.

use super::*;

async fn fill(lab: &Lab, channel: &str, count: u64) {
    for data in 1..=count {
        lab.publish(json!({"channel": channel, "data": data})).await;
    }
}

fn offsets(page: &Value) -> Vec<u64> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["offset"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn history_pages_both_ways() {
    let lab = lab().await;
    fill(&lab, "c", 5).await;
    for (query, wanted, more) in [
        ("", &[1, 2, 3, 4, 5][..], false),
        ("?limit=2", &[4, 5], true),
        ("?before=4&limit=2", &[2, 3], true),
        ("?before=3", &[1, 2], false),
        ("?after=0&limit=2", &[1, 2], true),
        ("?after=3", &[4, 5], false),
        ("?after=5", &[], false),
        ("?limit=999999", &[1, 2, 3, 4, 5], false),
    ] {
        let page = lab.get(&format!("/v1/channels/c/history{query}")).await;
        assert_eq!(
            (offsets(&page), &page["more"]),
            (wanted.to_vec(), &json!(more)),
            "{query}"
        );
        assert_eq!((&page["offset"], &page["first"]), (&json!(5), &json!(1)));
    }
}

#[tokio::test]
async fn a_position_off_the_log_is_gone_and_the_present_one_told() {
    let lab = lab().await;
    fill(&lab, "c", 2).await;
    let epoch = lab.get("/v1/channels/c/history").await["epoch"].clone();
    for query in ["after=3", "before=9", "epoch=other"] {
        let path = format!("/v1/channels/c/history?{query}");
        let problem = lab.refused("GET", &path, "", (410, "history_gone")).await;
        assert_eq!(
            (&problem["epoch"], &problem["offset"]),
            (&epoch, &json!(2)),
            "{query}"
        );
    }
    let path = format!(
        "/v1/channels/c/history?epoch={}&after=1",
        epoch.as_str().unwrap()
    );
    assert_eq!(offsets(&lab.get(&path).await), [2]);
}

#[tokio::test]
async fn parameters_are_read_strictly() {
    let lab = lab().await;
    for (path, wanted) in [
        ("/v1/channels/c/history?limit=0", (400, "bad_request")),
        ("/v1/channels/c/history?limit=many", (400, "bad_request")),
        ("/v1/channels/c/history?after=-1", (400, "bad_request")),
        ("/v1/channels/c/history?after=%2B1", (400, "bad_request")),
        (
            "/v1/channels/c/history?after=9007199254740992",
            (400, "bad_request"),
        ),
        (
            "/v1/channels/c/history?after=1&before=2",
            (400, "bad_request"),
        ),
        (
            "/v1/channels/c/history?after=1&after=1",
            (400, "bad_request"),
        ),
        ("/v1/channels/c/history?afer=1", (400, "bad_request")),
        ("/v1/channels/c/history?epoch=", (400, "bad_request")),
        ("/v1/channels/c/history?epoch=%FF", (400, "bad_request")),
        ("/v1/channels/c/history?epoch=%4", (400, "bad_request")),
        ("/v1/channels/%FF/history", (400, "bad_request")),
        ("/v1/channels/a%00b/history", (400, "bad_request")),
        ("/v1/channels/a%0Ab/history", (400, "bad_request")),
        ("/v1/channels/%20a/history", (400, "bad_request")),
        ("/v1/channels/nowhere:1/history", (404, "unknown_channel")),
        ("/v1/channels/nowhere:1/state", (404, "unknown_channel")),
        ("/v1/channels/$presence:orders:1/state", (403, "forbidden")),
        ("/v1/channels/%24sys/history", (403, "forbidden")),
        ("/v1/channels/c/state", (400, "bad_request")),
        ("/v1/channels/c/presence", (404, "unknown_channel")),
        (
            "/v1/channels/orders:1/presence?limit=1",
            (400, "bad_request"),
        ),
        ("/v1/channels?prefix=%24", (403, "forbidden")),
        ("/v1/channels?limit=0", (400, "bad_request")),
    ] {
        lab.refused("GET", path, "", wanted).await;
    }
    let long = format!("/v1/channels?after={}", "x".repeat(201));
    lab.refused("GET", &long, "", (400, "bad_request")).await;
}

#[tokio::test]
async fn odd_names_are_reached_percent_encoded() {
    let lab = lab().await;
    for (name, encoded) in [
        ("a/b", "a%2Fb"),
        ("{a}", "%7Ba%7D"),
        ("orders:Straße 7", "orders:Stra%C3%9Fe%207"),
        ("100%", "100%25"),
        ("a+b", "a+b"),
    ] {
        fill(&lab, name, 1).await;
        assert_eq!(
            offsets(&lab.get(&format!("/v1/channels/{encoded}/history")).await),
            [1],
            "{name}"
        );
    }
}

#[tokio::test]
async fn state_pages_in_rising_offsets() {
    let lab = lab().await;
    for key in ["a", "b", "a", "c"] {
        lab.publish(json!({"channel": "orders:1", "key": key, "data": {"of": key}, "ttl": 60_000}))
            .await;
    }
    let page = lab.get("/v1/channels/orders:1/state?limit=2").await;
    assert_eq!((offsets(&page), &page["more"]), (vec![2, 3], &json!(true)));
    assert_eq!(page["items"][0]["epoch"], page["epoch"]);
    assert!(page["items"][0]["expires"].as_u64() > page["items"][0]["ts"].as_u64());
    let page = lab.get("/v1/channels/orders:1/state?from=4").await;
    assert_eq!((offsets(&page), &page["more"]), (vec![4], &json!(false)));
}

#[tokio::test]
async fn channels_are_listed_without_the_hubs_own() {
    let lab = lab().await;
    for name in ["!first", "b:1", "a", "orders:2", "orders:1"] {
        lab.call(
            "POST",
            "/v1/publish",
            json!({"channel": name, "data": 1}).to_string(),
        )
        .await;
    }
    let listed = |page: &Value| -> Vec<String> {
        let channels = page["channels"].as_array().unwrap();
        channels
            .iter()
            .map(|channel| channel["channel"].as_str().unwrap().to_owned())
            .collect()
    };
    for n in 1..=3 {
        lab.enter(&format!("orders:{n}"), "ann/1", "{}").await;
    }
    for (query, wanted, more) in [
        ("", &["!first", "a", "orders:1", "orders:2"][..], false),
        ("?limit=2", &["!first", "a"], true),
        ("?limit=2&after=a", &["orders:1", "orders:2"], false),
        ("?prefix=orders:", &["orders:1", "orders:2"], false),
        ("?prefix=orders:&limit=1", &["orders:1"], true),
        ("?prefix=nothing", &[], false),
    ] {
        let page = lab.get(&format!("/v1/channels{query}")).await;
        assert_eq!(
            (listed(&page), &page["more"]),
            (
                wanted.iter().map(ToString::to_string).collect(),
                &json!(more)
            ),
            "{query}"
        );
    }
    assert_eq!(lab.get("/v1/channels").await["channels"][0]["offset"], 1);
}

#[tokio::test]
async fn presence_lists_members() {
    let lab = lab().await;
    assert_eq!(
        lab.get("/v1/channels/orders:1/presence").await,
        json!({"count": 0, "members": []})
    );
    for (n, key) in [(1, "ann/1"), (2, "a/b/2")] {
        lab.enter("orders:1", key, &format!("{{\"n\":{n}}}")).await;
    }
    let wanted = json!({"count": 2, "members": [
        {"key": "ann/1", "user": "ann", "data": {"n": 1}},
        {"key": "a/b/2", "user": "a/b", "data": {"n": 2}},
    ]});
    assert_eq!(lab.get("/v1/channels/orders:1/presence").await, wanted);
}

#[tokio::test]
async fn a_deleted_channel_begins_another_life() {
    let lab = lab().await;
    fill(&lab, "c", 2).await;
    let before = lab.get("/v1/channels/c/history").await;
    let answer = lab.call("DELETE", "/v1/channels/c", "").await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.json()["epoch"], before["epoch"]);
    let after = lab.get("/v1/channels/c/history").await;
    assert_eq!(
        (&after["offset"], &after["epoch"]),
        (&json!(0), &answer.json()["epoch"])
    );
}

#[tokio::test]
async fn a_blanked_entry_keeps_its_offset() {
    let lab = lab().await;
    fill(&lab, "c", 3).await;
    assert_eq!(
        lab.call("DELETE", "/v1/channels/c/history/2", "")
            .await
            .status,
        204
    );
    let page = lab.get("/v1/channels/c/history").await;
    assert_eq!(offsets(&page), [1, 2, 3]);
    let blanked = page["items"][1].as_object().unwrap();
    assert!(
        blanked["deleted"] == json!(true) && !blanked.contains_key("data"),
        "{blanked:?}"
    );
    lab.refused(
        "DELETE",
        "/v1/channels/c/history/9",
        "",
        (410, "history_gone"),
    )
    .await;
    lab.refused(
        "DELETE",
        "/v1/channels/c/history/two",
        "",
        (400, "bad_request"),
    )
    .await;
}
