// What every component needs; set once, by main.js.

export const context = { store: null, client: null };
