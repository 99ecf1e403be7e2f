"""Talks to the bridge with nats-py, and prints what it saw as one JSON document."""

import asyncio
import json
import sys

import nats


async def main(url):
    client = await nats.connect(url)
    events = await client.subscribe("pontoon.event.>")
    await client.flush()
    print("listening", flush=True)

    event = await events.next_msg(timeout=20)
    commands = "pontoon.command.sub0.shop."
    headers = {"Pontoon-Action": "balance_check"}
    reply = await client.request(commands + "call.fetch-balance", b"{}", timeout=20, headers=headers)
    refused = await client.request(commands + "nothing", b"{}", timeout=20)
    ping = await client.request("$SRV.PING.pontoon-sub0-shop", b"", timeout=20)
    stream = await client.jetstream().stream_info("PONTOON_SHOP")

    def seen(message):
        return {"subject": message.subject, "headers": message.headers, "body": json.loads(message.data)}

    print(json.dumps({
        "event": seen(event),
        "reply": seen(reply),
        "refused": seen(refused),
        "ping": json.loads(ping.data),
        "stored": stream.state.messages,
    }))
    await client.close()


asyncio.run(main(sys.argv[1]))
