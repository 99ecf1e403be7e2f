//! An instance moves to another connection to NATS, or to another server: events and commands under way go on.

use super::*;

#[tokio::test]
async fn kept_events_go_to_another_server_and_callers_are_answered_where_they_asked() {
    // Room for all that is sent until the instance has moved.
    const ROOM: &str = "delivery.max_bytes = \"1GiB\"";
    let mut fixture = Fixture::with(NatsServer::options(), ROOM).await;
    let other = NatsServer::start().await;
    let other_client = other.client().await;
    fixture.sub0.resource("slow", Resource::new(Answer::Echo).after(Duration::from_secs(2)));
    let inbox = fixture.client.new_inbox();
    let mut replies = listen(&fixture.client, &inbox).await;
    fixture
        .client
        .publish_with_reply("pontoon.command.sub0.shop.call.slow", inbox, "{}".into())
        .await
        .unwrap();
    eventually(DEADLINE, async || fixture.sub0.calls("slow").len() == 1).await;
    let config = DaemonConfig::new(&other).with(ROOM).sub0("shop", &fixture.sub0);
    let mut sent = reload_under_load(&mut fixture, config, 0).await;
    while !answers(&other_client).await {
        blast(&fixture.sub0, sent, 100).await;
        sent += 100;
    }
    blast(&fixture.sub0, sent, 100).await;
    sent += 100;
    let reply = timeout(DEADLINE, replies.next()).await.expect("in time").expect("subscribed");
    assert_eq!(Reply::of(&reply).status, "response");
    fixture.at_rest(sent).await;
    untouched(&fixture.sub0);
    let (before, after) = (contents(&fixture.nats, STREAM).await, contents(&other, STREAM).await);
    let gaps = |events: &[(String, Value)]| {
        events.iter().filter(|(kind, _)| kind == "pontoon.gap.detected.v1").count()
    };
    assert_eq!((gaps(&before), gaps(&after)), (0, 0), "nothing was missed");
    let (before, after) = (numbers(&before), numbers(&after));
    // What the former server has not confirmed in time, as on a busy machine, is published on the next one as well.
    let first = *after.first().expect("some were published after the move");
    assert!(before == up_to(before.len()) && first <= before.len() as u64, "{before:?} {first}");
    assert_eq!(after, up_to(sent)[usize::try_from(first).unwrap()..], "in order, and none is missing");
    // The former server is not needed any more.
    fixture.nats.kill();
    blast(&fixture.sub0, sent, 100).await;
    fixture.at_rest(sent + 100).await;
}

/// Whether the instance takes commands on this server.
async fn answers(client: &Client) -> bool {
    let reply =
        client.send_request("pontoon.command.sub0.shop.status".to_owned(), async_nats::Request::new());
    timeout(DEADLINE, reply).await.is_ok_and(|reply| reply.is_ok())
}

#[tokio::test]
async fn what_a_dead_server_did_not_confirm_goes_to_another() {
    let mut fixture = Fixture::start().await;
    blast(&fixture.sub0, 0, 100).await;
    fixture.at_rest(100).await;
    fixture.nats.kill();
    blast(&fixture.sub0, 100, 500).await;
    fixture.status(|status| status["unconfirmed_events"] == 500).await;
    let other = NatsServer::start().await;
    reload(&mut fixture.daemon, DaemonConfig::new(&other).sub0("shop", &fixture.sub0)).await;
    fixture.at_rest(600).await;
    untouched(&fixture.sub0);
    let events = contents(&other, STREAM).await;
    assert!(numbers(&events) == (100..600).collect::<Vec<_>>());
    assert_eq!(events.len(), 500, "without a gap, for nothing was missed");
}

#[tokio::test]
async fn former_connections_are_closed() {
    let mut fixture = Fixture::with(NatsServer::options().every_right(), "").await;
    fixture.at_rest(0).await;
    let files = fixture.daemon.open_files();
    let hosts = ["localhost", "127.0.0.1"];
    for host in hosts.iter().cycle().take(8) {
        let url = fixture.nats.url().replace("127.0.0.1", host);
        reload(&mut fixture.daemon, DaemonConfig::with_nats_url(&url).sub0("shop", &fixture.sub0)).await;
        assert_eq!(fixture.ask("call.x", "{}", &[]).await.status, "response");
    }
    // A connection that never came about is given up as well.
    let nowhere = DaemonConfig::with_nats_url("nats://127.0.0.1:1").sub0("shop", &fixture.sub0);
    reload(&mut fixture.daemon, nowhere).await;
    fixture.status(|status| status["bus"]["connected"] == false).await;
    reload(&mut fixture.daemon, DaemonConfig::new(&fixture.nats).sub0("shop", &fixture.sub0)).await;
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    eventually(DEADLINE, async || fixture.daemon.open_files() <= files).await;
    untouched(&fixture.sub0);
}

#[tokio::test]
async fn no_command_is_lost_while_the_instance_moves() {
    let mut fixture = Fixture::with(NatsServer::options().every_right(), "").await;
    let client = fixture.nats.client().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let asking = tokio::spawn(async move {
        let mut answered = 0;
        while !*stopped.borrow() {
            let each =
                (0..8).map(|_| crate::support::ask(&client, "pontoon.command.sub0.shop.call.x", "{}", &[]));
            for reply in futures_util::future::join_all(each).await {
                assert_eq!(reply.status, "response", "{:?}", reply.body);
                answered += 1;
            }
        }
        answered
    });
    for (moves, host) in ["localhost", "127.0.0.1"].iter().cycle().take(20).enumerate() {
        let url = fixture.nats.url().replace("127.0.0.1", host);
        reload(&mut fixture.daemon, DaemonConfig::with_nats_url(&url).sub0("shop", &fixture.sub0)).await;
        let moved = "the settings for NATS have changed; events go to the new connection";
        eventually(DEADLINE, async || fixture.daemon.logged(moved).len() == moves + 1).await;
    }
    stop.send_replace(true);
    let answered = asking.await.expect("every command was answered");
    assert_eq!(fixture.sub0.calls("x").len(), answered, "each was carried out once");
    untouched(&fixture.sub0);
}

#[tokio::test]
async fn the_answer_to_a_command_whose_connection_is_gone_goes_over_the_next_one() {
    let nats = NatsServer::options().every_right().start().await;
    let (sub0, proxy) = (Sub0::start().await, Proxy::to(nats.address()).await);
    sub0.resource("slow", Resource::new(Answer::Echo).after(Duration::from_secs(4)));
    let through = DaemonConfig::with_nats_url(&format!("nats://{}", proxy.address()));
    let (daemon, client) = (start(through.sub0("shop", &sub0)), nats.client().await);
    let mut fixture = Fixture { daemon, sub0, nats, client };
    fixture.status(|status| status["bus"]["publishing"] == true).await;
    let inbox = fixture.client.new_inbox();
    let mut replies = listen(&fixture.client, &inbox).await;
    fixture
        .client
        .publish_with_reply("pontoon.command.sub0.shop.call.slow", inbox, "{}".into())
        .await
        .unwrap();
    eventually(DEADLINE, async || fixture.sub0.calls("slow").len() == 1).await;
    proxy.refuse().await;
    reload(&mut fixture.daemon, DaemonConfig::with_nats_url(&fixture.nats.url()).sub0("shop", &fixture.sub0))
        .await;
    let reply = timeout(DEADLINE, replies.next()).await.expect("in time").expect("subscribed");
    assert_eq!(Reply::of(&reply).status, "response");
    untouched(&fixture.sub0);
}
