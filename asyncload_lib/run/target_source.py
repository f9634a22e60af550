"""Where a run's load goes: what the settings name, or the embedded demo when nothing is named."""

import time
from collections.abc import Sequence
from dataclasses import replace

import gevent
from locust import FastHttpUser, HttpUser
from locust.env import Environment

from asyncload_lib.addresses import is_embedded, missing, missing_for_users
from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.errors import ConfigurationError, TargetError
from asyncload_lib.redaction import redact
from asyncload_lib.report.stdout import say
from asyncload_lib.run.terminal import tell
from asyncload_lib.settings import OPTIONS, Settings, value_problems
from asyncload_lib.target import Target, base_address
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.vm_list import Vm

__all__ = ["TargetSource", "configured"]

WEB_UI_LIMIT_S = 10.0


class TargetSource:
    """Gives the target of one environment; owns the embedded demo, if there is one. For the node that directs."""

    def __init__(self, environment: Environment, settings: Settings) -> None:
        self._environment = environment
        self._settings = settings
        self._demo: DemoStack | None = None
        self._starting: gevent.Greenlet | None = None
        self._embedded: Target | None = None
        self.configured = configured(settings)

    @property
    def is_embedded(self) -> bool:
        """Whether the demo is the target: no address is configured, and there are users that need one."""
        return not self.is_known and self._is_wanted

    @property
    def is_known(self) -> bool:
        """Whether an address other than the demo's is given: by settings, by Locust's host or by a user class."""
        return not is_embedded(self._settings, self._host)

    @property
    def _is_wanted(self) -> bool:
        """Whether any user needs an address; in the web UI, others may be picked for a run."""
        return any(map(_needs_address, self._environment.user_classes))

    @property
    def _hosts(self) -> list[str]:
        """Where users are sent: to Locust's host, which the web UI may have changed, or else to that of each class."""
        given = base_address(self._environment.host)
        of_classes = (base_address(user_class.host) for user_class in self._environment.user_classes)
        return [given] if given else sorted({host for host in of_classes if host})

    @property
    def _host(self) -> str | None:
        """The first host that was given and is not the demo's own."""
        own = self._embedded.host if self._embedded else None
        return next((host for host in self._hosts if host != own), self.configured.host)

    def check(self, scenarios: Sequence[str]) -> None:
        """Refuse a host that is no URL where HTTP is spoken, scenarios or users whose address is not configured, and
        what the command line asks of a demo that is not loaded.

        Without scenarios (a free run) it is the users that count. Raises ConfigurationError with all that was found.
        """
        if problems := [*self._address_problems(scenarios), *self._demo_problems()]:
            raise ConfigurationError(problems)

    def _address_problems(self, scenarios: Sequence[str]) -> list[str]:
        needs = {} if scenarios else {a_class.__name__: _needs(a_class) for a_class in self._environment.user_classes}
        return [
            *self._host_problems(),
            *(missing(self._settings, self._host, scenarios) if scenarios or self.is_embedded else ()),
            *missing_for_users(self._settings, self._host, needs),
        ]

    def _demo_problems(self) -> list[str]:
        """Name what the command line says of the demo where it is not the target: a file may have it for other runs."""
        if self.is_embedded:
            return []
        return [
            f"{key} on the command line ({option.flag}) applies only to the embedded demo, which this run does not "
            "load: an address is configured (host, redis.url or vms), or no user needs one; leave out one or the other"
            for key, option in OPTIONS.items()
            if key.startswith("demo.") and self._settings.origin(key) == "command line"
        ]

    def _host_problems(self) -> list[str]:
        """Say what is wrong with Locust's host, or else with those of the user classes; other protocols have others."""
        classes = [a_class for a_class in self._environment.user_classes if issubclass(a_class, AsyncHttpUser)]
        given = base_address(self._environment.host)
        hosts = [(given or base_address(a_class.host), a_class.__name__) for a_class in classes]
        places = {host: "given to Locust (--host)" if given else f"of {name}" for host, name in hosts if host}
        return [problem for host, place in places.items() for problem in value_problems("host", host, place)]

    def start(self, *, web_ui_first: bool) -> None:
        """Start the demo and wait until it is up; raises TargetError if it does not come up.

        `web_ui_first`: return at once, and begin when the web UI is up; before, the demo's processes would take the CPU
        that it needs. That the demo does not come up is told then, and whoever is to load it gets the error.
        """
        if web_ui_first:
            self._starting = gevent.spawn(self._start_behind_web_ui)
        else:
            self._start()

    def _start_behind_web_ui(self) -> TargetError | None:
        self._await_web_ui()
        try:
            self._start()
        except TargetError as error:
            tell(error)
            return error  # raised, it would be printed as a traceback
        return None

    def _start(self) -> None:
        demo = self._settings.demo
        self._demo = DemoStack(
            mode=demo.mode,
            model_time_s=demo.model_time,
            network_delay_s=demo.network_delay,
            vm_delay_s=demo.vm_delay,
            probe_path=self._settings.loop.probe_path,
        )
        self._demo.start()
        self._embedded = target = _embedded(self._demo, self._settings)
        if base_address(self._environment.host):  # given in the web UI meanwhile
            return
        self._environment.host = target.host
        simulated = ", ".join(f"{name} {value * 1e3:g} ms" for name, value in (target.simulated or {}).items())
        say(f"No host given: the target is the embedded demo at {target.host} ({simulated}, all simulated)")

    def _await_web_ui(self) -> None:
        web_ui, deadline = self._environment.web_ui, time.monotonic() + WEB_UI_LIMIT_S
        while web_ui is not None and time.monotonic() < deadline:
            if web_ui.server is not None and web_ui.server.started:
                break
            gevent.sleep(0.01)

    def aim(self, scenarios: Sequence[str]) -> tuple[Target, str]:
        """Send the users of a run that begins now to its target; return it, and why no one host can be watched, or "".

        That is the demo, which is waited for, or what is configured; with another host, which the web UI may have
        given, nothing of the demo's is left. Raises ConfigurationError for what `check` would refuse by then, and
        TargetError if the demo has not come up.
        """
        self._environment.host = base_address(self._environment.host)
        if self.is_embedded:
            if self._starting is not None and (error := self._starting.get()):
                raise error
            if failure := self.failure():
                raise TargetError(f"the demo has ended: {failure}; stop this command and start it again")
        if problems := self._address_problems(scenarios):
            raise ConfigurationError(problems)
        target = self._embedded if self._embedded and self.is_embedded else self.configured
        hosts = self._hosts
        if len(hosts) > 1:
            return replace(target, host=None), f"the users have several hosts ({', '.join(map(redact, hosts))})"
        if hosts and self.is_known:
            target = replace(target, host=hosts[0])
        elif not hosts:  # emptied in the web UI
            self._environment.host = target.host
        return target, ""

    def failure(self) -> str | None:
        """Return why the demo has ended, if it has."""
        return self._demo.failure() if self._demo else None

    def stop(self) -> None:
        """End the demo, also one that is still starting."""
        if self._starting is not None:
            self._starting.kill()
        if self._demo is not None:
            self._demo.stop()


def _needs(user_class: type) -> str:
    return user_class.required_setting if issubclass(user_class, AsyncUser) else ""


def _needs_address(user_class: type) -> bool:
    """Tell whether users cannot run without an address; those of any other protocol have theirs where we see none."""
    return bool(_needs(user_class)) or issubclass(user_class, (AsyncHttpUser, HttpUser, FastHttpUser))


def configured(settings: Settings) -> Target:
    """Return what the settings name, if anything."""
    return Target(
        host=base_address(settings.host),
        baseline_host=base_address(settings.baseline.host),
        redis_url=settings.redis.url,
        vms=settings.vms,
        probe_token=settings.loop.probe_token,
    )


def _embedded(demo: DemoStack, settings: Settings) -> Target:
    return Target(
        host=demo.host,
        baseline_host=demo.blocking_host,
        redis_url=demo.redis_url,
        vms=tuple(Vm(**vm) for vm in demo.vms),
        probe_token=demo.probe_token,
        embedded=True,
        mode=settings.demo.mode,
        simulated=dict(demo.simulated),
    )
