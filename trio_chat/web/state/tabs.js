// What tabs of one browser tell each other: what passes. (What lasts, each sees in the storage.)

export class Tabs {
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("trio-chat") : null;

  // Hear what other tabs of this account say.
  listen(account, heard) {
    if (this.#channel) this.#channel.onmessage = ({ data }) => data.account === account() && heard(data.type, data.detail);
  }

  tell(account, type, detail = {}) {
    this.#channel?.postMessage({ account, type, detail });
  }
}
