"""Publishes what a WebSocket sends. What is not confirmed yet is bounded: the socket is not read meanwhile."""

import asyncio
import datetime
import json
import re
import sys
import time

import nats
import websockets

PLAIN = re.compile("[A-Za-z0-9_-]*")


def token(channel):
    """A channel as a token of a subject."""
    if PLAIN.fullmatch(channel):
        return channel
    return "".join(
        chr(byte) if PLAIN.fullmatch(chr(byte)) else f"={byte:02X}" for byte in channel.encode()
    )


def headers_of(job):
    """A function that gives each event of a channel its headers."""
    epoch, number = int(time.time() * 1000), 0
    source = "urn:pontoon:" + job["source"].replace(".", ":", 1)

    # The time as text, made once for each millisecond.
    millisecond, text = 0, ""

    def now(_):
        nonlocal millisecond, text
        at = time.time_ns() // 1_000_000
        if at != millisecond:
            millisecond = at
            utc = datetime.datetime.fromtimestamp(at / 1000, datetime.timezone.utc)
            text = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return text

    values = {
        "Content-Type": lambda _: "application/json",
        "ce-datacontenttype": lambda _: "application/json",
        "ce-specversion": lambda _: "1.0",
        "ce-source": lambda _: source,
        "ce-type": lambda _: job["ce_type"],
        "ce-link": lambda _: "main",
        "ce-upstreamevent": lambda _: job["upstream"],
        "ce-subject": lambda channel: channel,
        "ce-time": now,
        "ce-id": lambda _: f"{epoch}-{number}",
        "ce-sequence": lambda _: f"{epoch:015}-{number:012}",
        "Nats-Msg-Id": lambda _: f"{job['source']}:{epoch}-{number}",
        "Nats-Expected-Last-Sequence": lambda _: str(number - 1),
    }
    used = [(name, values[name]) for name in job["headers"]]

    def headers(channel):
        nonlocal number
        number += 1
        return {name: value(channel) for name, value in used}

    return headers


async def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    # Its subjects are right: `token` makes them.
    client = await nats.connect(job["nats"], skip_subject_validation=True)
    stream = client.jetstream(publish_async_max_pending=job["in_flight"]) if job["jetstream"] else None
    headers = headers_of(job)

    def confirmed(ack):
        if ack.exception() is not None:
            print(ack.exception(), file=sys.stderr)
            asyncio.get_running_loop().stop()

    async with websockets.connect(job["url"], compression=None, max_size=None) as socket:
        async for text in socket:
            chat = json.loads(text)
            if chat["type"] != "message":
                continue
            room = chat["room"]
            body = f'{{"channel":{json.dumps(room)},"raw":{text}}}'.encode()
            subject = job["subject"] + token(room)
            if stream is None:
                await client.publish(subject, body, headers=headers(room))
            else:
                ack = await stream.publish_async(subject, body, headers=headers(room))
                ack.add_done_callback(confirmed)


asyncio.run(main())
