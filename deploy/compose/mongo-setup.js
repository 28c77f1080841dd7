/*
 * Forms the replica set and gives each service a user with rights on the database of its name only. A job: it may run any
 * number of times, also when another one was killed at any line, and follows MONGO_NODES when nodes were added.
 *
 * It runs in the network namespace of the first node: a server without users lets only a local connection form the set and
 * create the first user (https://www.mongodb.com/docs/manual/core/localhost-exception/).
 *
 * The services are those whose password is mounted here: /run/secrets/<service>_password.
 */
const fs = require('fs');

const NODES = process.env.MONGO_NODES.split(',');
const SECRETS = '/run/secrets';
const GIVE_UP_MS = 90000;
// After the default of 10 s without a primary the set would elect another one; a node of the same machine or data centre that
// is silent for 2 s is gone.
const SETTINGS = { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500 };
const USER_EXISTS = 51003, UNAUTHORIZED = 13, ALREADY_INITIALIZED = 23, AUTHENTICATION_FAILED = 18, NOT_PRIMARY = 10107;

const secret = name => fs.readFileSync(`${SECRETS}/${name}`, 'utf8').trim();
const rootPassword = secret('mongo_root_password');

// The first node by itself, without authentication.
function local() {
    return new Mongo('mongodb://127.0.0.1:27017/?directConnection=true&serverSelectionTimeoutMS=2000');
}

// The set's primary, as the administrator.
function administrator() {
    const password = encodeURIComponent(rootPassword);
    return new Mongo(`mongodb://root:${password}@${NODES.map(node => `${node}:27017`).join(',')}/admin` +
        '?replicaSet=rs0&serverSelectionTimeoutMS=3000');
}

// The answer, or null for an error with one of these codes.
function run(db, command, ignored) {
    try {
        const answer = db.runCommand(command);
        return answer;
    } catch (error) {
        if (ignored.includes(error.code)) {
            return null;
        }
        throw error;
    }
}

function formSet() {
    const members = NODES.map((node, number) => ({ _id: number, host: `${node}:27017` }));
    const admin = local().getDB('admin');
    if (run(admin, { replSetInitiate: { _id: 'rs0', members, settings: SETTINGS } }, [ALREADY_INITIALIZED, UNAUTHORIZED])) {
        print('the set is formed');
    }
    // Only the primary takes it; the first node is one within seconds. As soon as there is a user, nobody may do this again.
    run(admin, { createUser: 'root', pwd: rootPassword, roles: ['root'] }, [USER_EXISTS, UNAUTHORIZED, NOT_PRIMARY]);
}

function followNodes(admin) {
    const config = admin.runCommand({ replSetGetConfig: 1 }).config;
    const known = config.members.map(member => member.host);
    const missing = NODES.map(node => `${node}:27017`).find(host => !known.includes(host));
    if (missing) {
        // A set takes one new member at a time.
        config.members.push({ _id: Math.max(...config.members.map(member => member._id)) + 1, host: missing });
        config.version += 1;
        admin.runCommand({ replSetReconfig: config });
        print(`${missing} joined`);
        return followNodes(admin);
    }
}

function admitServices(client) {
    for (const file of fs.readdirSync(SECRETS).filter(name => name.endsWith('_password') && name !== 'mongo_root_password')) {
        const service = file.replace(/_password$/, '');
        const db = client.getDB(service);
        const roles = ['readWrite', 'dbAdmin'].map(role => ({ role, db: service }));
        const command = db.getUser(service) ? 'updateUser' : 'createUser';
        db.runCommand({ [command]: service, pwd: secret(file), roles });
        print(`${service}: user and rights are there`);
    }
}

const until = Date.now() + GIVE_UP_MS;
for (;;) {
    try {
        const client = administrator();
        followNodes(client.getDB('admin'));
        admitServices(client);
        break;
    } catch (error) {
        if (Date.now() > until) {
            print(`the set cannot be prepared: ${error.message}`);
            quit(1);
        }
        if (error.code === AUTHENTICATION_FAILED || /server selection|ServerSelection|ECONNREFUSED|timed out/i.test(`${error.name} ${error.message}`)) {
            try {
                formSet();
            } catch (early) {
                print(`waiting: ${early.message}`);
            }
        }
        sleep(500);
    }
}
