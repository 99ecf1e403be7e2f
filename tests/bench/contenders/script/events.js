// Publishes of a message what the table of the benchmark does.
export default {
  decode(frame, out) {
    const message = frame.json;
    if (message.type !== "message") return out.ignore();
    out.publish({ type: "message.created", upstream: message.type, channel: message.room });
  },
};
