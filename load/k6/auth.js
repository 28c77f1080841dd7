// Profiles, refreshed sessions, logins and registrations. A password hash costs some 20 ms of a core, so few of them.
import * as platform from './platform.js';

export const options = platform.optionsFor('auth');
export const setup = platform.makeAccounts;
export default platform.sender('auth');
