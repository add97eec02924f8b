"""GPUs that are not there: tensors that compute on the CPU but say that they lie on "cuda:0", "cuda:1", …

Every torch function sees where its arguments claim to be, and refuses to mix places as CUDA does. The values are real,
so that whole evaluations run, and their results can be compared with those of one device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

CPU = torch.device("cpu")
_MOVES = {torch.Tensor.copy_, torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
_INDEXES = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}  # CUDA takes indices (and written values) of the CPU
_OF_ITSELF = {torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__}  # type: ignore[attr-defined]


class Pretended(torch.Tensor):
    """A tensor of the CPU that claims another device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> "Pretended":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(f"{func} was called on a pretended tensor without passing through Python")


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a torch function on the CPU, as if its arguments lay where they claim to."""
    if func in _OF_ITSELF:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    if func is torch._has_compatible_shallow_copy_type:
        return False  # a module cannot put a pretended tensor into a parameter of the CPU; it takes a new parameter
    if func in (torch.Tensor.detach, torch.Tensor.requires_grad_):
        kwargs = {}
        args = args[:1]
    target = _target(func, args, kwargs)
    places = {one.device for one in _pretended((args, kwargs))}
    if len(places) > 1 and func not in _MOVES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {_name(func)} got {places}")
    if places and func not in _MOVES | _INDEXES:
        lost = [one for one in _plain((args, kwargs)) if one.dim() > 0]
        if lost:
            raise RuntimeError(f"Expected all tensors to be on {places}, but {_name(func)} got one of the CPU")
    if target is None and len(places) > 0:
        first = args[0] if args and isinstance(args[0], Pretended) else None
        target = first.device if first is not None else next(iter(places))
    originals = {id(one.inner): one for one in _pretended((args, kwargs))}
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*_bare(args), **_bare(kwargs))
    return _clothed(result, target, originals)


def _target(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.device | None:
    """Return the device that the arguments ask for, the CPU for a tensor that claims nothing; None if they do not."""
    if func is torch.Tensor.to:
        other = next((one for one in args[1:] if isinstance(one, torch.Tensor)), None)
        if other is not None:
            return other.device
        words = {key: value for key, value in kwargs.items() if key != "copy"}
        return torch._C._nn._parse_to(*args[1:], **words)[0]
    if func is torch.Tensor.cpu:
        return CPU
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    return None


def _pretended(value: Any) -> Iterator[Pretended]:
    yield from (one for one in _tensors(value) if isinstance(one, Pretended))


def _plain(value: Any) -> Iterator[torch.Tensor]:
    yield from (one for one in _tensors(value) if not isinstance(one, Pretended))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _bare(value: Any) -> Any:
    """The arguments without claims: tensors of the CPU, and the CPU wherever another device was meant."""
    if isinstance(value, Pretended):
        return value.inner
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda")):
        return CPU
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_bare(one) for one in value)
    return value


def _clothed(value: Any, device: torch.device | None, originals: dict[int, Pretended]) -> Any:
    if isinstance(value, torch.Tensor):
        if id(value) in originals:
            kept = originals[id(value)]  # an operation in place, or one that had nothing to do
            if device is None or kept.device == device:
                return kept
            value = value.clone()  # moved: what is written there is not seen here
        if device is None or device.type == "cpu":
            return value
        return Pretended(value, device)
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        made = [_clothed(one, device, originals) for one in value]
        return type(value)(made)
    return value


def _name(func: Callable[..., Any]) -> str:
    return resolve_name(func) or str(func)


class _Factories(TorchFunctionMode):
    """Lets functions without any pretended tensor make one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(True for _ in _pretended((args, kwargs))):
            return compute(func, args, kwargs)
        target = _target(func, args, kwargs) if func is torch.Tensor.to or kwargs.get("device") is not None else None
        if target is None or target.type != "cuda":
            return func(*args, **kwargs)
        if func is torch.Tensor.to and isinstance(args[0], torch.nn.Parameter):
            # A shared parameter is moved once, as CUDA would put it into the same object.
            key = (id(args[0]), target)
            if key not in self.moved:
                self.moved[key] = (args[0], Pretended(func(*_bare(args), **_bare(kwargs)).detach().clone(), target))
            return self.moved[key][1]
        return Pretended(func(*_bare(args), **_bare(kwargs)).clone(), target)

    def __init__(self) -> None:
        super().__init__()
        self.moved: dict[Any, Any] = {}


@contextmanager
def pretended_devices() -> Iterator[None]:
    """Let tensors be moved to and made on devices "cuda:N" that are not there."""
    with _Factories():
        yield
