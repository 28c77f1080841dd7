// Everything that a client does, as in load/locustfile.py.
import * as platform from './platform.js';

export const options = platform.optionsFor('mixed');
export const setup = platform.makeAccounts;
export default platform.sender('mixed');
