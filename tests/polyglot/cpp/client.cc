// Calls both services with stubs that protoc has made from `protos/`.
//
//   client CLICKSTREAM IMPROVEMENT COLLECTION SESSION
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tideline/clickstream/v1/session_service.grpc.pb.h"
#include "tideline/improvement/v1/search_service.grpc.pb.h"

namespace clickstream = tideline::clickstream::v1;
namespace improvement = tideline::improvement::v1;

namespace {

struct Context : grpc::ClientContext {
  Context() { set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30)); }
};

void Must(const grpc::Status& status) {
  if (status.ok()) return;
  std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
  std::exit(1);
}

clickstream::Event Click() {
  clickstream::Event event;
  event.set_event_id("1");
  event.set_object_id("tent");
  event.add_event_types("click");
  event.mutable_dwell()->set_seconds(5);
  return event;
}

void Create(clickstream::SessionService::Stub& sessions, const std::string& session_id) {
  clickstream::CreateSessionRequest request;
  auto* session = request.mutable_session();
  session->set_session_id(session_id);
  session->set_user_id("u1");
  session->mutable_search_query()->set_text("a tent");
  session->add_search_results()->set_object_id("tent");
  session->add_search_results()->set_object_id("stove");
  Context context;
  clickstream::CreateSessionResponse created;
  Must(sessions.CreateSession(&context, request, &created));
  std::cout << "created " << created.session().session_id() << "\n";
}

void Stream(clickstream::SessionService::Stub& sessions, const std::string& session_id) {
  Context context;
  auto stream = sessions.StreamEvents(&context);
  for (int sequence = 1; sequence <= 2; ++sequence) {
    clickstream::StreamEventsRequest message;
    message.set_sequence(sequence);
    message.set_session_id(session_id);
    *message.add_events() = Click();
    stream->Write(message);
  }
  stream->WritesDone();
  clickstream::StreamEventsResponse answer;
  while (stream->Read(&answer)) {
    const auto& outcome = answer.outcomes(0);
    std::cout << "streamed " << answer.sequence() << " " << outcome.event_id() << " "
              << clickstream::EventStatus_Name(outcome.status()) << "\n";
  }
  Must(stream->Finish());
}

void Get(clickstream::SessionService::Stub& sessions, const std::string& session_id) {
  clickstream::GetSessionRequest request;
  request.set_session_id(session_id);
  Context context;
  clickstream::GetSessionResponse got;
  Must(sessions.GetSession(&context, request, &got));
  const auto& first = got.events(0);
  std::cout << "got " << got.session().user_id() << " " << first.event_id() << " " << first.event_types(0) << " "
            << first.dwell().seconds() << "\n";
}

void Search(improvement::SearchService::Stub& searches, const std::string& collection) {
  improvement::SearchRequest request;
  request.set_collection(collection);
  request.add_query_vector(1);
  request.add_query_vector(0);
  request.set_limit(2);
  Context context;
  improvement::SearchResponse found;
  Must(searches.Search(&context, request, &found));
  for (const auto& result : found.results()) {
    std::cout << "found " << result.object_id() << " " << result.payload().fields().at("title").string_value() << "\n";
  }
}

void BeRefused(clickstream::SessionService::Stub& sessions) {
  Context context;
  clickstream::GetSessionResponse nothing;
  const auto refused = sessions.GetSession(&context, clickstream::GetSessionRequest(), &nothing);
  google::rpc::Status status;
  status.ParseFromString(refused.error_details());
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  for (const auto& detail : status.details()) {
    detail.UnpackTo(&info) || detail.UnpackTo(&bad);
  }
  std::cout << "refused " << refused.error_code() << " " << info.reason() << " " << info.domain() << " "
            << bad.field_violations(0).field() << std::endl;
}

}  // namespace

int main(int, char** arguments) {
  const auto dial = [](const char* address) { return grpc::CreateChannel(address, grpc::InsecureChannelCredentials()); };
  const auto sessions = clickstream::SessionService::NewStub(dial(arguments[1]));
  const auto searches = improvement::SearchService::NewStub(dial(arguments[2]));
  Create(*sessions, arguments[4]);
  Stream(*sessions, arguments[4]);
  Get(*sessions, arguments[4]);
  Search(*searches, arguments[3]);
  BeRefused(*sessions);
}
