// Numbers and times for people.

/** Seconds as `0.4 s`, `38 s`, `3 min 5 s`, `2 h 4 min`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 && minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

/** Milliseconds as `duration`. */
export const ms = (value) => (value === null || value === undefined ? "–" : duration(value / 1000));

/** A countdown: `2:05`, `1:02:03`. */
export function clock(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const parts = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

const UNITS = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20]];

/** Units of a resource: large ones as sizes, when they are all sizes. */
export function units(amount, whole = amount) {
  for (const [name, size] of UNITS) {
    if (whole >= size) return `${Number((amount / size).toFixed(1))} ${name}`;
  }
  return String(amount);
}

export const time = (at) =>
  new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const shortTime = (at) =>
  new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** `3 requests`, `1 request`. */
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
