// The connection to the server of this page: frames come in, what is wanted goes out.
//
// A frame is drawn when the browser draws, and only then the next one is asked for: a page in the
// background asks for nothing.

const SILENCE = 15000; // milliseconds; the server sends something every 5 s to who has drawn

function unpack(data) {
  const length = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  return { header, data, start: 4 + length };
}

export class Wire {
  // onFrame(header, buffers) draws; onOpen() says again what is wanted; onState(live, since) tells.
  constructor({ onFrame, onOpen, onState }) {
    Object.assign(this, { onFrame, onOpen, onState });
    this.wait = 500;
    this.since = new Date();
    this.heard = performance.now();
    this.connect();
    setInterval(() => this.listen(), 1000);
    document.addEventListener("visibilitychange", () => (this.heard = performance.now()));
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = 500;
      this.socket = socket;
      this.heard = performance.now();
      this.since = new Date();
      this.onState(true, this.since);
      this.onOpen();
    };
    socket.onmessage = (event) => this.take(socket, event.data);
    socket.onclose = () => this.lose(socket);
  }

  take(socket, data) {
    this.heard = performance.now();
    requestAnimationFrame(() => {
      if (socket !== this.socket) return;
      const { header, start } = unpack(data);
      this.onFrame(header, new Buffers(data, start, header.sizes));
      this.send({ drawn: true });
    });
  }

  listen() {
    const silent = performance.now() - this.heard > SILENCE;
    if (this.socket && silent && document.visibilityState === "visible") this.socket.close();
  }

  lose(socket) {
    if (this.socket === socket) {
      this.socket = null;
      this.since = new Date();
    }
    this.onState(false, this.since);
    setTimeout(() => this.again(), this.wait);
    this.wait = Math.min(2 * this.wait, 5000);
  }

  async again() {
    try {
      const answer = await fetch("/entered");
      if (answer.status === 401) location.reload();
    } catch {
      // there is no server; the attempt below says so, too
    }
    this.connect();
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}

// The binary data behind a frame's text: each buffer begins at a multiple of 8 bytes.
class Buffers {
  constructor(data, start, sizes) {
    this.data = data;
    let at = start;
    this.places = sizes.map((size) => {
      const place = [at, size];
      at += size + ((8 - (size % 8)) % 8);
      return place;
    });
  }

  floats(number) {
    const [at, size] = this.places[number];
    return new Float64Array(this.data, at, size / 8);
  }

  bytes(number) {
    const [at, size] = this.places[number];
    return new Uint8Array(this.data, at, size);
  }
}
