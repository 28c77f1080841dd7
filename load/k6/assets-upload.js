// Small files: uploaded, described, downloaded.
import * as platform from './platform.js';

export const options = platform.optionsFor('assets-upload');
export const setup = platform.makeAccounts;
export default platform.sender('assets-upload');
