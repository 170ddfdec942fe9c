// People, groups, and the list of conversations.

import { ChatError, directConv, groupConv, groupOf, isGroup, Kind, peerOf } from "../core/kinds.js";

export class Contacts {
  #client;
  #asked = new Set(); // groups whose details were asked for on this connection
  #strangers = new Set();
  #leaving = new Set(); // groups that somebody here asked to leave

  constructor(client) {
    this.#client = client;
  }

  get #store() {
    return this.#client.store;
  }

  loggedIn(friends, groups) {
    this.#asked.clear();
    this.#strangers.clear();
    for (const person of this.#store.people.values()) person.online = person.friend = false;
    for (const friend of friends) this.#addFriend(friend);
    const present = new Set(groups.map((group) => group.id));
    for (const id of [...this.#store.groups.keys()]) if (!present.has(id)) this.left(id);
    for (const group of groups) this.#addGroup(group);
    for (const conv of this.#store.conversations.keys()) if (isGroup(conv) && !present.has(groupOf(conv))) this.details(groupOf(conv)); // its name
    this.findBlocked();
    this.#store.changed("lists");
    this.#refresh();
  }

  async #refresh() {
    const { protocol } = this.#client;
    let answer;
    try {
      answer = await this.#client.ask(Kind.CONVERSATIONS, {}, { repeatable: true });
    } catch (error) {
      if (error.error !== "signed_out") setTimeout(() => this.#store.connection.online && this.#refresh(), error.isPutOff ? 2000 : 10000);
      return;
    }
    const previews = [];
    for (const row of answer.conversations) {
      const conversation = this.#store.conversation(row.conv);
      conversation.told(row.last_seq, row.read_seq);
      protocol.inbox.receivedElsewhere(row.conv, row.received_seq);
      if (!isGroup(row.conv)) {
        const peer = peerOf(row.conv, this.#store.me);
        conversation.mark(peer, { received: row.peer_received_seq ?? 0, read: row.peer_read_seq ?? 0 });
      }
      if (isGroup(row.conv) && !this.#store.groups.has(groupOf(row.conv))) this.details(groupOf(row.conv));
      previews.push(this.#preview(conversation));
      this.#store.changed(row.conv);
    }
    await Promise.all(previews);
    // What came while the answer was on its way, and is not in it, is new.
    for (const conversation of this.#store.conversations.values()) if (!conversation.isKnown) conversation.told(conversation.head, 0);
    this.#store.loaded = true;
    this.#store.changed("lists");
  }

  // What the list shows of a conversation; the name of the other one too, where only one's own message is the last.
  async #preview(conversation) {
    const { history } = this.#client;
    await history.preview(conversation);
    if (!this.#store.title(conversation.conv) && !isGroup(conversation.conv) && conversation.head > 1) await history.load(conversation, conversation.blocks - 1);
  }

  // Who wrote is somebody whose name is known.
  met({ from, name, conv }) {
    if (from !== this.#store.me && name && this.#store.people.get(from)?.name !== name) this.#store.meet(from, { name });
    if (!isGroup(conv)) return;
    const group = this.#store.groups.get(groupOf(conv));
    if (!group) this.details(groupOf(conv));
    else if (!group.users.some((user) => user.id === from) && !this.#strangers.has(`${conv} ${from}`)) {
      this.#strangers.add(`${conv} ${from}`); // joined since, or left: asked for once
      this.details(group.id, true);
    }
  }

  // The members of a group and how far each is; asked once per connection.
  async details(id, again = false) {
    if (this.#asked.has(id) && !again) return;
    this.#asked.add(id);
    try {
      const { group } = await this.#client.ask(Kind.GROUP_INFO, { groupid: id }, { repeatable: true });
      if (group.users) this.#addGroup(group); // only its members are told who they are
      else this.#outside(id, group.groupname);
    } catch (error) {
      if (error.error === "no_such_group") {
        this.#outside(id, "");
        return;
      }
      this.#asked.delete(id); // shown by its number until it is asked for again
    }
  }

  // By name, or by number where nobody has that name. Resolves to the friend.
  async addFriend(nameOrId) {
    const asked = nameOrId.trim();
    let id = null;
    try {
      id = (await this.#client.askNow(Kind.FIND_USER, { name: asked })).user.id;
    } catch (error) {
      if (error.error !== "no_such_user" || !/^#?\d{1,15}$/.test(asked)) throw error;
      id = Number(asked.replace("#", ""));
    }
    if (id === this.#store.me) throw new ChatError("yourself");
    const known = this.#store.people.get(id);
    if (known?.friend) return known;
    const { friend } = await this.#client.askNow(Kind.ADD_FRIEND, { friendid: id });
    this.#addFriend(friend);
    this.#client.tabs.tell(this.#store.me, "friend", friend);
    return friend;
  }

  // Resolves to the name of its conversation.
  async createGroup(groupname, groupdesc) {
    const { groupid } = await this.#client.askNow(Kind.CREATE_GROUP, { groupname, groupdesc });
    const { id, name } = this.#store.session;
    return this.#joined({ id: groupid, groupname, groupdesc, users: [{ id, name, role: "creator", state: "online" }] });
  }

  async joinGroup(nameOrId) {
    const asked = nameOrId.trim();
    let id = null;
    try {
      id = (await this.#client.askNow(Kind.GROUP_INFO, { groupname: asked })).group.id;
    } catch (error) {
      if (error.error !== "no_such_group" || !/^#?\d{1,15}$/.test(asked)) throw error;
      id = Number(asked.replace("#", ""));
    }
    return this.join(id);
  }

  // By number alone. Resolves to the name of its conversation.
  async join(id) {
    if (!this.#store.groups.has(id)) {
      try {
        this.#joined((await this.#client.askNow(Kind.JOIN_GROUP, { groupid: id })).group);
      } catch (error) {
        if (error.error !== "already_exists") throw error;
        await this.details(id, true); // joined elsewhere
      }
      this.#refresh(); // how long its log is
    }
    return groupConv(id);
  }

  // What was not sent there yet is given up as well.
  async leaveGroup(id) {
    this.#leaving.add(id);
    try {
      await this.#client.askNow(Kind.LEAVE_GROUP, { groupid: id });
    } catch (error) {
      if (error.error !== "not_a_member" && error.error !== "no_such_group") throw error;
      this.left(id);
    } finally {
      this.#leaving.delete(id);
    }
    const conv = groupConv(id);
    for (const entry of this.#store.conversation(conv).pending) this.#client.discard(conv, entry.key);
  }

  // One is not in this group any more.
  left(id) {
    const group = this.#store.groups.get(id);
    if (!group) return;
    this.#outside(id, group.name);
    if (!this.#leaving.has(id)) this.#client.dispatchEvent(new CustomEvent("removed", { detail: group }));
  }

  // End another one's membership; `barred`: for good.
  async removeMember(id, userid, barred) {
    try {
      await this.#client.askNow(Kind.REMOVE_MEMBER, { groupid: id, userid, barred });
    } catch (error) {
      if (error.error !== "not_a_member") throw error; // has left
    }
    const group = this.#store.groups.get(id);
    if (group) group.users = group.users.filter((user) => user.id !== userid);
    this.#store.conversation(groupConv(id)).members?.delete(userid);
    this.#store.changed("lists", groupConv(id));
  }

  // Whom one has blocked: known after each login, and asked for again where that may have changed.
  async findBlocked() {
    try {
      const { users } = await this.#client.ask(Kind.BLOCKED, {}, { repeatable: true });
      this.#store.blocked = new Map(users.map(({ id, name }) => [id, name]));
      this.#store.changed("lists");
    } catch {
      // An old server, or none: the next login asks again.
    }
  }

  async block(id) {
    await this.#client.askNow(Kind.BLOCK, { userid: id });
    this.#blocked({ id, name: this.#store.person(id)?.name ?? "" });
  }

  async unblock(id) {
    await this.#client.askNow(Kind.UNBLOCK, { userid: id });
    this.#blocked({ id, name: null });
  }

  #blocked(detail) {
    this.told("blocked", detail);
    this.#client.tabs.tell(this.#store.me, "blocked", detail);
  }

  told(type, detail) {
    if (type === "friend") this.#addFriend(detail);
    else if (type === "blocked") {
      if (detail.name === null) this.#store.blocked.delete(detail.id);
      else this.#store.blocked.set(detail.id, detail.name);
      this.#store.changed("lists");
    }
    else if (type === "group") this.#addGroup(detail);
  }

  // The conversation with somebody.
  direct(id) {
    const conv = directConv(this.#store.me, id);
    this.#store.conversation(conv);
    return conv;
  }

  #joined(group) {
    this.#addGroup(group);
    this.#client.tabs.tell(this.#store.me, "group", group);
    return groupConv(group.id);
  }

  // A group that one is not in.
  #outside(id, name) {
    this.#store.groups.delete(id);
    this.#store.groupNames.set(id, name);
    this.#store.conversation(groupConv(id)).end();
    this.#store.changed("lists", groupConv(id));
  }

  #addFriend({ id, name, state }) {
    this.#store.meet(id, { name, online: state === "online", friend: true });
  }

  #addGroup({ id, groupname, groupdesc, users }) {
    const known = this.#store.groups.get(id);
    const members = users?.map((user) => ({ id: user.id, name: user.name, role: user.role, online: user.state === "online" }));
    this.#store.groupNames.delete(id);
    this.#store.groups.set(id, { id, name: groupname, about: groupdesc ?? "", users: members ?? known?.users ?? [] });
    const conversation = this.#store.conversation(groupConv(id));
    conversation.forbidden = false;
    if (users) conversation.members = new Map(users.map((user) => [user.id, user.role]));
    for (const user of users ?? []) {
      conversation.mark(user.id, { received: user.received_seq ?? 0, read: user.read_seq ?? 0 });
      if (user.id !== this.#store.me && !this.#store.people.get(user.id)?.name) this.#store.meet(user.id, { name: user.name });
    }
    this.#store.changed("lists", groupConv(id));
  }
}
