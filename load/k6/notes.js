// Notes: read, listed, searched, created, created again with the same key, changed.
import * as platform from './platform.js';

export const options = platform.optionsFor('notes');
export const setup = platform.makeAccounts;
export default platform.sender('notes');
