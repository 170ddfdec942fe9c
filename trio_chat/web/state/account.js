// One's own account: its password, its logins, its data, its end.

import { Kind } from "../core/kinds.js";
import { write } from "./storage.js";

export class Account {
  #client;

  constructor(client) {
    this.#client = client;
  }

  changePassword(password, newpassword) {
    return this.#client.askNow(Kind.CHANGE_PASSWORD, { password, newpassword });
  }

  // Where one is logged in, the latest used first.
  async logins() {
    return (await this.#client.askNow(Kind.LOGINS, {})).logins;
  }

  revoke(login) {
    return this.#client.askNow(Kind.REVOKE_LOGIN, { login });
  }

  // The answers to these two log this page out.
  async logoutEverywhere() {
    await this.#client.askNow(Kind.LOGOUT_EVERYWHERE, {});
    write("session", null);
  }

  async delete(password) {
    await this.#client.askNow(Kind.DELETE_ACCOUNT, { password });
    write("session", null);
  }

  // All that the server has of this account, as one object. `progress` is told how many messages have come.
  async export(progress) {
    const { msgid, ref, errno, more, messages, ...account } = await this.#client.askNow(Kind.EXPORT, {});
    let goesOn = more;
    while (goesOn) {
      const { conv, seq } = messages.at(-1);
      const page = await this.#client.askNow(Kind.EXPORT, { after: { conv, seq } });
      messages.push(...page.messages);
      goesOn = page.more;
      progress(messages.length);
    }
    return { ...account, messages };
  }
}
