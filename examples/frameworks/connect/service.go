package main

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"example.com/bearer"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// This file stands in for what protoc-gen-connect-go generates: the path of the
// service and the handler of all of its procedures, and their names.

const (
	pingProcedure   = "/messages.v1.Messages/Ping"
	whoAmIProcedure = "/messages.v1.Messages/WhoAmI"
	listProcedure   = "/messages.v1.Messages/List"
	watchProcedure  = "/messages.v1.Messages/Watch"
)

func newMessagesHandler() (string, http.Handler) {
	mux := http.NewServeMux()
	unary := func(procedure string, call func(context.Context) string) {
		mux.Handle(procedure, connect.NewUnaryHandler(procedure,
			func(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.StringValue], error) {
				return connect.NewResponse(wrapperspb.String(call(ctx))), nil
			}))
	}
	unary(pingProcedure, func(context.Context) string { return "pong" })
	unary(whoAmIProcedure, func(ctx context.Context) string {
		claims, _ := bearer.FromContext(ctx)
		return claims.Subject
	})
	unary(listProcedure, func(context.Context) string { return "here are your messages" })
	mux.Handle(watchProcedure, connect.NewServerStreamHandler(watchProcedure,
		func(ctx context.Context, _ *connect.Request[emptypb.Empty], stream *connect.ServerStream[wrapperspb.StringValue]) error {
			claims, _ := bearer.FromContext(ctx)
			return stream.Send(wrapperspb.String("a message for " + claims.Subject))
		}))
	return "/messages.v1.Messages/", mux
}
