/*
 * Forms the replica set, and gives each service a user with rights on the database of its name only. The job can run any
 * number of times, also after a run that was killed at any line, and adds the nodes that are new in MONGO_NODES.
 *
 * It runs in the network namespace of the first node: while a server has no users, only a local connection can form the set
 * and create the first user (https://www.mongodb.com/docs/manual/core/localhost-exception/). Where the first node was started
 * with its administrator, MONGO_FIRST is its address, and the job may run anywhere.
 *
 * The services are those whose passwords are mounted as /run/secrets/<service>_password.
 */
const fs = require('fs');

const NODES = process.env.MONGO_NODES.split(',');
const SECRETS = '/run/secrets';
const GIVE_UP_MS = 90000;
// By default the set elects another primary after 10 s without one. Within a machine or a data centre, a node that is silent
// for 2 s is down.
const SETTINGS = { electionTimeoutMillis: 2000, heartbeatIntervalMillis: 500 };
const USER_EXISTS = 51003, UNAUTHORIZED = 13, ALREADY_INITIALIZED = 23, AUTHENTICATION_FAILED = 18, NOT_PRIMARY = 10107;

const secret = name => fs.readFileSync(`${SECRETS}/${name}`, 'utf8').trim();
const rootPassword = secret('mongo_root_password');

// Return a connection to the first node alone, which forms no set yet.
function first() {
    const node = process.env.MONGO_FIRST ? `root:${encodeURIComponent(rootPassword)}@${process.env.MONGO_FIRST}` : '127.0.0.1';
    return new Mongo(`mongodb://${node}:27017/?directConnection=true&serverSelectionTimeoutMS=2000`);
}

// Return a connection to the set's primary, as the administrator.
function administrator() {
    const password = encodeURIComponent(rootPassword);
    return new Mongo(`mongodb://root:${password}@${NODES.map(node => `${node}:27017`).join(',')}/admin` +
        '?replicaSet=rs0&serverSelectionTimeoutMS=3000');
}

// Return the command's reply, or null for an error with one of these codes.
function run(db, command, ignored) {
    try {
        // `return db.runCommand(command)` would leave the `try` before mongosh awaits the reply, and miss its error.
        const reply = db.runCommand(command);
        return reply;
    } catch (error) {
        if (ignored.includes(error.code)) {
            return null;
        }
        throw error;
    }
}

function formSet() {
    const members = NODES.map((node, number) => ({ _id: number, host: `${node}:27017` }));
    const admin = first().getDB('admin');
    if (run(admin, { replSetInitiate: { _id: 'rs0', members, settings: SETTINGS } }, [ALREADY_INITIALIZED, UNAUTHORIZED])) {
        print('the set is formed');
    }
    // Only the primary creates users, and the first node becomes primary within seconds. Once a user exists, this is refused.
    run(admin, { createUser: 'root', pwd: rootPassword, roles: ['root'] }, [USER_EXISTS, UNAUTHORIZED, NOT_PRIMARY]);
}

function addNewNodes(admin) {
    const config = admin.runCommand({ replSetGetConfig: 1 }).config;
    const known = config.members.map(member => member.host);
    const missing = NODES.map(node => `${node}:27017`).find(host => !known.includes(host));
    if (missing) {
        // A replica set accepts one new member at a time.
        config.members.push({ _id: Math.max(...config.members.map(member => member._id)) + 1, host: missing });
        config.version += 1;
        admin.runCommand({ replSetReconfig: config });
        print(`${missing} joined`);
        return addNewNodes(admin);
    }
}

function createServiceUsers(client) {
    for (const file of fs.readdirSync(SECRETS).filter(name => name.endsWith('_password') && name !== 'mongo_root_password')) {
        const service = file.replace(/_password$/, '');
        const db = client.getDB(service);
        const roles = ['readWrite', 'dbAdmin'].map(role => ({ role, db: service }));
        const command = db.getUser(service) ? 'updateUser' : 'createUser';
        db.runCommand({ [command]: service, pwd: secret(file), roles });
        print(`${service}: user and rights are ready`);
    }
}

const until = Date.now() + GIVE_UP_MS;
for (;;) {
    try {
        const client = administrator();
        addNewNodes(client.getDB('admin'));
        createServiceUsers(client);
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
