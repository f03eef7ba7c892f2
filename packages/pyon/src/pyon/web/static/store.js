// The rows that the page has received, and the viewers that show them. The requests to the server
// follow from the viewers.
//
// A viewer has `element`, `opened`, `most` (parts), `width` (pixels), and `update(row, history)`.
// A row that is off the screen is requested only if its viewer's `unseen` is "open" or "closed".

const SPAN = 120; // seconds of history of a number
const STEP = 64; // pixels: widths are rounded up to it, so that resizing causes few requests
const GRAIN = 0.1; // seconds: of numbers closer than this only the last one is kept

export class Store {
  constructor(send) {
    this.send = send;
    this.rows = new Map(); // id -> row
    this.histories = new Map(); // id -> [times, numbers]
    this.viewers = new Map(); // id -> set of viewers
    this.visible = new Set(); // elements on the screen
    this.owners = new WeakMap(); // element -> viewer
    this.asked = "";
    this.resizing = new ResizeObserver(() => this.ask());
    this.observer = new IntersectionObserver((entries) => this.see(entries), { rootMargin: "150px" });
  }

  watch(id, viewer) {
    if (!this.viewers.has(id)) this.viewers.set(id, new Set());
    this.viewers.get(id).add(viewer);
    this.owners.set(viewer.element, viewer);
    this.observer.observe(viewer.element);
    this.resizing.observe(viewer.element);
    if (this.rows.has(id)) viewer.update(this.rows.get(id), this.histories.get(id));
    this.ask();
  }

  forget(id, viewer) {
    const viewers = this.viewers.get(id);
    viewers?.delete(viewer);
    if (!viewers?.size) {
      this.viewers.delete(id);
      this.rows.delete(id);
      this.histories.delete(id);
    }
    this.observer.unobserve(viewer.element);
    this.resizing.unobserve(viewer.element);
    this.visible.delete(viewer.element);
    this.ask();
  }

  see(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) this.visible.add(target);
      else this.visible.delete(target);
    }
    this.ask();
  }

  // Request the rows on the screen, at most once per microtask.
  ask(force = false) {
    if (force) this.asked = "";
    if (this.asking) return;
    this.asking = true;
    queueMicrotask(() => {
      this.asking = false;
      const rows = {};
      for (const [id, viewers] of this.viewers) {
        const seen = (one) => this.visible.has(one.element);
        const some = [...viewers].filter((one) => seen(one) || one.unseen);
        if (!some.length) continue;
        rows[id] = [
          some.some((one) => (seen(one) ? one.opened : one.unseen === "open")),
          Math.max(...some.map((one) => one.most ?? 0)),
          STEP * Math.ceil(Math.max(...some.map((one) => one.width ?? 0)) / STEP),
        ];
      }
      const asked = JSON.stringify(rows);
      if (asked === this.asked) return;
      this.asked = asked;
      this.send({ rows });
    });
  }

  // Store the rows of a frame with their buffers, and update their viewers.
  take(rows, buffers) {
    for (const row of rows) {
      const old = this.rows.get(row.id);
      if (row.spark) row.spark = buffers.floats(row.spark.buffers[0]);
      if (row.plot) {
        const read = row.kind === "image" ? "bytes" : "floats";
        row.plot.data = row.plot.buffers.map((number) => buffers[read](number));
      } else if (old?.plot && old.kind === row.kind) row.plot = old.plot;
      if (row.kind === "number") this.remember(row.id, row.number);
      else this.histories.delete(row.id);
      this.rows.set(row.id, row);
    }
    for (const row of rows) {
      for (const viewer of [...(this.viewers.get(row.id) ?? [])]) {
        viewer.update(row, this.histories.get(row.id));
      }
    }
  }

  remember(id, number) {
    const now = performance.now() / 1000;
    if (!this.histories.has(id)) this.histories.set(id, [[], []]);
    const [times, numbers] = this.histories.get(id);
    if (times.length > 1 && now - times.at(-2) < GRAIN) {
      times.pop();
      numbers.pop();
    }
    times.push(now);
    numbers.push(number);
    let old = 0;
    while (old < times.length - 1 && times[old + 1] < now - SPAN) old += 1;
    times.splice(0, old);
    numbers.splice(0, old);
  }

  // Rows without a viewer were sent with their parent; they are kept until it is closed.
  drop(ids) {
    for (const id of ids) if (!this.viewers.has(id)) this.rows.delete(id);
  }
}
