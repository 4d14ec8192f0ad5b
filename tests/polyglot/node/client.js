// Calls both services with stubs that are made from `protos/` as the program starts.
//
//   node client.js CLICKSTREAM IMPROVEMENT COLLECTION SESSION PROTOS GOOGLEAPIS
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const [clickstream, improvement, collection, sessionId, ...includeDirs] = process.argv.slice(2);

const contract = loadSync(
  [
    'tideline/clickstream/v1/session_service.proto',
    'tideline/improvement/v1/search_service.proto',
    'google/rpc/status.proto',
    'google/rpc/error_details.proto',
  ],
  { includeDirs, keepCase: true, enums: String, longs: String, defaults: true },
);
const { tideline } = grpc.loadPackageDefinition(contract);
const options = [grpc.credentials.createInsecure(), {}];
const sessions = new tideline.clickstream.v1.SessionService(clickstream, ...options);
const searches = new tideline.improvement.v1.SearchService(improvement, ...options);

const call = (client, method, request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });

async function* streamed(messages) {
  const stream = sessions.StreamEvents({ deadline: Date.now() + 30_000 });
  for (const message of messages) stream.write(message);
  stream.end();
  yield* stream;
}

// What a failed call says of itself is a google.rpc.Status in its trailers, whose details are messages of their own.
function details(error) {
  const [packed] = error.metadata.get('grpc-status-details-bin');
  const unpacked = {};
  for (const { type_url, value } of contract['google.rpc.Status'].deserialize(packed).details) {
    const name = type_url.split('/').pop();
    unpacked[name] = contract[name]?.deserialize(value);
  }
  return unpacked;
}

const session = {
  session_id: sessionId,
  user_id: 'u1',
  search_query: { text: 'a tent' },
  search_results: [{ object_id: 'tent' }, { object_id: 'stove' }],
};
const created = await call(sessions, 'CreateSession', { session });
console.log('created', created.session.session_id);

const event = { event_id: '1', object_id: 'tent', event_types: ['click'], dwell: { seconds: 5 } };
const messages = [1, 2].map((sequence) => ({ sequence, session_id: sessionId, events: [event] }));
for await (const { sequence, outcomes } of streamed(messages)) {
  console.log('streamed', sequence, outcomes[0].event_id, outcomes[0].status);
}

const got = await call(sessions, 'GetSession', { session_id: sessionId });
const [first] = got.events;
console.log('got', got.session.user_id, first.event_id, first.event_types[0], first.dwell.seconds);

const found = await call(searches, 'Search', { collection, query_vector: [1, 0], limit: 2 });
for (const { object_id, payload } of found.results) {
  console.log('found', object_id, payload.fields.title.stringValue);
}

try {
  await call(sessions, 'GetSession', { session_id: '' });
} catch (error) {
  const told = details(error);
  const { reason, domain } = told['google.rpc.ErrorInfo'];
  const [{ field }] = told['google.rpc.BadRequest'].field_violations;
  console.log('refused', error.code, reason, domain, field);
}
sessions.close();
searches.close();
