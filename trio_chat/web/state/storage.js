// What this browser keeps: localStorage, which may be full or forbidden. Every tab of one address shares it.

const PREFIX = "trio-chat:";

// Says whether it was kept.
export function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function read(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

// The names that begin like this.
export function names(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + prefix)).map((key) => key.slice(PREFIX.length));
  } catch {
    return [];
  }
}

// Call `changed(name, value)` when another tab has written.
export function watch(changed) {
  addEventListener("storage", (event) => {
    if (event.key?.startsWith(PREFIX)) changed(event.key.slice(PREFIX.length), read(event.key.slice(PREFIX.length)));
  });
}
