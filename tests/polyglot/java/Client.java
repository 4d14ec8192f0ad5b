import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import dev.tideline.clickstream.v1.CreateSessionRequest;
import dev.tideline.clickstream.v1.Event;
import dev.tideline.clickstream.v1.GetSessionRequest;
import dev.tideline.clickstream.v1.SearchQuery;
import dev.tideline.clickstream.v1.SearchResult;
import dev.tideline.clickstream.v1.Session;
import dev.tideline.clickstream.v1.SessionServiceGrpc;
import dev.tideline.clickstream.v1.StreamEventsRequest;
import dev.tideline.clickstream.v1.StreamEventsResponse;
import dev.tideline.improvement.v1.SearchRequest;
import dev.tideline.improvement.v1.SearchServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Calls both services with stubs that protoc has made from {@code protos/}.
 *
 * <p>{@code Client CLICKSTREAM IMPROVEMENT COLLECTION SESSION}
 */
public final class Client {
  public static void main(String[] arguments) throws Exception {
    ManagedChannel clickstream = dial(arguments[0]);
    ManagedChannel improvement = dial(arguments[1]);
    try {
      talk(clickstream, improvement, arguments[2], arguments[3]);
    } finally {
      clickstream.shutdownNow();
      improvement.shutdownNow();
    }
  }

  private static ManagedChannel dial(String address) {
    return ManagedChannelBuilder.forTarget(address).usePlaintext().build();
  }

  private static void talk(
      ManagedChannel clickstream, ManagedChannel improvement, String collection, String sessionId) throws Exception {
    var sessions = SessionServiceGrpc.newBlockingStub(clickstream).withDeadlineAfter(30, TimeUnit.SECONDS);
    var searches = SearchServiceGrpc.newBlockingStub(improvement).withDeadlineAfter(30, TimeUnit.SECONDS);

    var session =
        Session.newBuilder()
            .setSessionId(sessionId)
            .setUserId("u1")
            .setSearchQuery(SearchQuery.newBuilder().setText("a tent"))
            .addSearchResults(SearchResult.newBuilder().setObjectId("tent"))
            .addSearchResults(SearchResult.newBuilder().setObjectId("stove"));
    var created = sessions.createSession(CreateSessionRequest.newBuilder().setSession(session).build());
    System.out.println("created " + created.getSession().getSessionId());

    var over = new CompletableFuture<Void>();
    var stream =
        SessionServiceGrpc.newStub(clickstream)
            .withDeadlineAfter(30, TimeUnit.SECONDS)
            .streamEvents(
                new StreamObserver<StreamEventsResponse>() {
                  @Override
                  public void onNext(StreamEventsResponse answer) {
                    var outcome = answer.getOutcomes(0);
                    System.out.printf(
                        "streamed %d %s %s%n", answer.getSequence(), outcome.getEventId(), outcome.getStatus());
                  }

                  @Override
                  public void onError(Throwable error) {
                    over.completeExceptionally(error);
                  }

                  @Override
                  public void onCompleted() {
                    over.complete(null);
                  }
                });
    var event =
        Event.newBuilder()
            .setEventId("1")
            .setObjectId("tent")
            .addEventTypes("click")
            .setDwell(Duration.newBuilder().setSeconds(5));
    for (int sequence = 1; sequence <= 2; sequence++) {
      stream.onNext(
          StreamEventsRequest.newBuilder().setSequence(sequence).setSessionId(sessionId).addEvents(event).build());
    }
    stream.onCompleted();
    over.get(30, TimeUnit.SECONDS);

    var got = sessions.getSession(GetSessionRequest.newBuilder().setSessionId(sessionId).build());
    var first = got.getEvents(0);
    System.out.printf(
        "got %s %s %s %d%n",
        got.getSession().getUserId(), first.getEventId(), first.getEventTypes(0), first.getDwell().getSeconds());

    var query = SearchRequest.newBuilder().setCollection(collection).addQueryVector(1).addQueryVector(0).setLimit(2);
    for (var result : searches.search(query.build()).getResultsList()) {
      var title = result.getPayload().getFieldsOrThrow("title").getStringValue();
      System.out.println("found " + result.getObjectId() + " " + title);
    }

    try {
      sessions.getSession(GetSessionRequest.getDefaultInstance());
    } catch (StatusRuntimeException refused) {
      ErrorInfo info = null;
      BadRequest bad = null;
      for (Any detail : StatusProto.fromThrowable(refused).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          bad = detail.unpack(BadRequest.class);
        }
      }
      System.out.printf(
          "refused %d %s %s %s%n",
          refused.getStatus().getCode().value(),
          info.getReason(),
          info.getDomain(),
          bad.getFieldViolations(0).getField());
    }
  }
}
