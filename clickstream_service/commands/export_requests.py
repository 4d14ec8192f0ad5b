"""What to ask the service for when something is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tideline.clickstream.v1 import interaction_pb2, interaction_service_pb2
from tideline.clickstream.v1 import training_service_pb2 as pb

if TYPE_CHECKING:
    import argparse

_SPLITS = {"user": pb.SPLIT_KEY_USER, "query": pb.SPLIT_KEY_QUERY}


def pairs(arguments: argparse.Namespace) -> pb.ExportTrainingPairsRequest:
    choice = pb.TrainingChoice(
        min_interactions=arguments.min_interactions,
        max_negatives=arguments.max_negatives,
        interaction_types=arguments.types,
        surfaces=arguments.surfaces,
    )
    if arguments.since is not None:
        choice.created_from.FromDatetime(arguments.since)
    if arguments.before is not None:
        choice.created_before.FromDatetime(arguments.before)
    request = pb.ExportTrainingPairsRequest(snapshot_id=arguments.snapshot)
    # What the snapshot has no room for is refused by the service.
    if not arguments.snapshot or choice != pb.TrainingChoice():
        request.choice.CopyFrom(choice)
    if arguments.split is not None:
        request.split.key = _SPLITS[arguments.split]
        request.split.fractions.extend(arguments.fractions)
        request.split.part = arguments.part
    return request


def inputs(arguments: argparse.Namespace) -> pb.ExportFineTuningInputsRequest:
    request = pb.ExportFineTuningInputsRequest(batch_id=arguments.batch)
    if arguments.since is not None:
        request.created_from.FromDatetime(arguments.since)
    if arguments.before is not None:
        request.created_before.FromDatetime(arguments.before)
    return request


def interactions(arguments: argparse.Namespace) -> interaction_service_pb2.ExportInteractionsRequest:
    match = interaction_pb2.InteractionMatch(interaction_types=arguments.types)
    if arguments.since is not None:
        match.occurred_from.FromDatetime(arguments.since)
    if arguments.before is not None:
        match.occurred_before.FromDatetime(arguments.before)
    request = interaction_service_pb2.ExportInteractionsRequest()
    if match != interaction_pb2.InteractionMatch():
        request.filter.match.CopyFrom(match)
    return request
