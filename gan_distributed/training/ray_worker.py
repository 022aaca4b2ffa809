"""What Ray Train calls on every worker: the world from Ray's context, the mailbox as the way to the driver."""

import sys
from typing import Any

from gan_distributed.errors import InputError, LeaseLostError, TrainingError
from gan_distributed.training.supervision import Drain, Supervision
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World


def run_in_ray(arguments: dict[str, Any]) -> None:
    """The training function of Ray Train: builds the world from Ray's context; the mailbox is its way to the driver."""
    import ray
    import ray.train
    import ray.train.torch

    assignment: Assignment = arguments["assignment"]
    sys.path.extend(folder for folder in assignment.code_folders if folder not in sys.path)
    context = ray.train.get_context()
    world = World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        local_rank=context.get_local_rank(),
        device=ray.train.torch.get_device(),
    )
    driver = _Driver(arguments["mailbox"])

    def wait_for_drain() -> Drain | None:
        info = ray.train.get_preemption_info()
        if info is None:
            return None
        deadline = None if info.deadline_ms is None else info.deadline_ms / 1000
        return Drain(tuple(info.preempted_node_ids), tuple(info.preempted_ranks), deadline)

    if world.rank == 0 and (refused := driver.ask("begin", world.size)) is not None:
        raise refused
    with Supervision(world, assignment.config.cluster.stall_timeout_s, driver, wait_for_drain) as supervision:
        try:
            supervision.finish(run_rank(assignment, world, arguments["cpus_per_worker"], supervision.link))
        except Exception as error:
            # Some would only come again: the driver ends the run instead of starting the workers once more.
            if isinstance(error, InputError | TrainingError | LeaseLostError):
                driver.ask("fail", error)
            supervision.failing(error)
            raise


class _Driver:
    """The mailbox as the supervision sees it."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method there and wait for its answer."""
        import ray

        return ray.get(getattr(self._mailbox, method).remote(*arguments))

    def send(self, method: str, *arguments: Any) -> None:
        """Call a method there."""
        getattr(self._mailbox, method).remote(*arguments)
