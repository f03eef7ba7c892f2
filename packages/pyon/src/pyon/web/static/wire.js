// The connection to the server of this page: it receives frames and sends requests.
//
// A frame is drawn when the browser paints, and is acknowledged only then: a page in the background
// requests nothing.

const SILENCE = 15000; // milliseconds; the server answers each acknowledgement within 5 s

function unpack(data) {
  const length = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  return { header, data, start: 4 + length };
}

export class Wire {
  // onFrame(header, buffers) draws, onOpen() sends all requests again, onState(live, since) shows the state.
  constructor({ onFrame, onOpen, onState }) {
    Object.assign(this, { onFrame, onOpen, onState });
    this.wait = 500;
    this.since = new Date();
    this.lastReceived = performance.now();
    this.connect();
    setInterval(() => this.checkSilence(), 1000);
    document.addEventListener("visibilitychange", () => (this.lastReceived = performance.now()));
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = 500;
      this.socket = socket;
      this.lastReceived = performance.now();
      this.since = new Date();
      this.onState(true, this.since);
      this.onOpen();
    };
    socket.onmessage = (event) => this.take(socket, event.data);
    socket.onclose = () => this.lose(socket);
  }

  take(socket, data) {
    this.lastReceived = performance.now();
    requestAnimationFrame(() => {
      if (socket !== this.socket) return;
      const { header, start } = unpack(data);
      this.onFrame(header, new Buffers(data, start, header.sizes));
      this.send({ drawn: true });
    });
  }

  checkSilence() {
    const silent = performance.now() - this.lastReceived > SILENCE;
    if (this.socket && silent && document.visibilityState === "visible") this.socket.close();
  }

  lose(socket) {
    if (this.socket === socket) {
      this.socket = null;
      this.since = new Date();
    }
    this.onState(false, this.since);
    setTimeout(() => this.reconnect(), this.wait);
    this.wait = Math.min(2 * this.wait, 5000);
  }

  async reconnect() {
    try {
      const answer = await fetch("/entered");
      if (answer.status === 401) location.reload();
    } catch {
      // no server: the attempt below fails, too
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
