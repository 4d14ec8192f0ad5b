// Calls both services with stubs that protoc has made from `protos/`.
//
//	client CLICKSTREAM IMPROVEMENT COLLECTION SESSION
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	clickstream "github.com/tideline/tideline/gen/go/tideline/clickstream/v1"
	improvement "github.com/tideline/tideline/gen/go/tideline/improvement/v1"
)

func main() {
	collection, sessionID := os.Args[3], os.Args[4]
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	sessions := clickstream.NewSessionServiceClient(dial(os.Args[1]))
	searches := improvement.NewSearchServiceClient(dial(os.Args[2]))

	created, err := sessions.CreateSession(ctx, &clickstream.CreateSessionRequest{Session: &clickstream.Session{
		SessionId:     sessionID,
		UserId:        "u1",
		SearchQuery:   &clickstream.SearchQuery{Query: &clickstream.SearchQuery_Text{Text: "a tent"}},
		SearchResults: []*clickstream.SearchResult{{ObjectId: "tent"}, {ObjectId: "stove"}},
	}})
	must(err)
	fmt.Println("created", created.Session.SessionId)

	stream, err := sessions.StreamEvents(ctx)
	must(err)
	for sequence := int64(1); sequence <= 2; sequence++ {
		must(stream.Send(&clickstream.StreamEventsRequest{
			Sequence:  sequence,
			SessionId: sessionID,
			Events: []*clickstream.Event{{
				EventId:    "1",
				ObjectId:   "tent",
				EventTypes: []string{"click"},
				Dwell:      durationpb.New(5 * time.Second),
			}},
		}))
	}
	must(stream.CloseSend())
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			break
		}
		must(err)
		outcome := answer.Outcomes[0]
		fmt.Println("streamed", answer.Sequence, outcome.EventId, outcome.Status)
	}

	got, err := sessions.GetSession(ctx, &clickstream.GetSessionRequest{SessionId: sessionID})
	must(err)
	first := got.Events[0]
	fmt.Println("got", got.Session.UserId, first.EventId, first.EventTypes[0], first.Dwell.Seconds)

	found, err := searches.Search(ctx, &improvement.SearchRequest{
		Collection: collection, QueryVector: []float32{1, 0}, Limit: 2,
	})
	must(err)
	for _, result := range found.Results {
		fmt.Println("found", result.ObjectId, result.Payload.Fields["title"].GetStringValue())
	}

	_, err = sessions.GetSession(ctx, &clickstream.GetSessionRequest{})
	var info *errdetails.ErrorInfo
	var bad *errdetails.BadRequest
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			info = detail
		case *errdetails.BadRequest:
			bad = detail
		}
	}
	// Go spells codes its own way: the number is what all languages share.
	fmt.Println("refused", uint32(status.Code(err)), info.Reason, info.Domain, bad.FieldViolations[0].Field)
}

func dial(address string) *grpc.ClientConn {
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	must(err)
	return connection
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
