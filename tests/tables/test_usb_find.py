"""Which USB device is taken and which is refused, with pyusb's device replaced at its edge."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture
from usb.core import USBError

from drivers import registry
from drivers.causes import CAUSES, with_step
from drivers.transport import usb_find
from drivers.transport.port_error import PortError
from drivers.transport.url import UsbPlace, is_usb, usb_place
from tests.conformance.connecting import SITE
from tests.fakes.usbip_server import BULK_IN, BULK_OUT, INTERRUPT_IN

HERE = UsbPlace("", "TR000001")
STEPS = {cause.code: cause.step for cause in CAUSES}


def endpoint(address: int, kind: int, size: int = 64) -> SimpleNamespace:
    return SimpleNamespace(bEndpointAddress=address, bmAttributes=kind, wMaxPacketSize=size)


GOOD = (endpoint(INTERRUPT_IN, 3), endpoint(BULK_OUT, 2), endpoint(BULK_IN, 2))


class Interface(list[SimpleNamespace]):
    """With the names of pyusb."""

    bInterfaceNumber, bAlternateSetting = 4, 0  # noqa: N815
    bInterfaceClass, bInterfaceSubClass, bInterfaceProtocol = usb_find.CLASS  # noqa: N815


class Configuration(list[Interface]):
    bConfigurationValue = 1  # noqa: N815


class Device(list[Configuration]):
    """As much of `usb.core.Device` as is used; `fails[method]` is the errno it raises."""

    bus, address, iSerialNumber = 3, 7, 3  # noqa: N815

    def __init__(self, *endpoints: SimpleNamespace, serial: str | None = "TR000001") -> None:
        super().__init__([Configuration([Interface(endpoints or GOOD)])])
        self.serial = serial
        self.configured = 1
        self.kernel_has_it = False
        self.fails: dict[str, int | None] = {}
        self.done: list[str] = []
        self._ctx = self

    def act(self, what: str) -> None:
        if what in self.fails:
            raise USBError("as the test wants it", None, self.fails[what])
        self.done.append(what)

    @property
    def serial_number(self) -> str:
        if self.serial is None:
            raise ValueError("The device has no langid")
        return self.serial

    def is_kernel_driver_active(self, _number: int) -> bool:
        self.act("open")
        return self.kernel_has_it

    def detach_kernel_driver(self, _number: int) -> None:
        self.act("detach")

    def get_active_configuration(self) -> Configuration:
        self.act("get")
        if not self.configured:
            raise USBError("Configuration not set")
        return self[0]

    def set_configuration(self, value: int) -> None:
        self.act(f"set {value}")

    def managed_claim_interface(self, _device: object, _number: int) -> None:
        self.act("claim")

    def dispose(self, _device: object, _close: bool = True) -> None:
        self.done.append("disposed")


@pytest.fixture
def plugged(mocker: MockerFixture) -> list[Any]:
    """What is on the bus."""
    there: list[Any] = []
    mocker.patch("usb.core.Device", side_effect=lambda one, _backend: one)
    return there


def claim(there: list[Any], place: UsbPlace = HERE) -> usb_find.Found:
    return usb_find.claim(place, SimpleNamespace(enumerate_devices=lambda: there))


def refused(there: list[Any], place: UsbPlace = HERE) -> PortError:
    with pytest.raises(PortError) as caught:
        claim(there, place)
    for device in there:
        assert device.done[-1] == "disposed"
    return caught.value


def test_endpoints_are_found_by_type_and_direction(plugged: list[Any]) -> None:
    plugged.append(Device())
    found = claim(plugged)
    assert (found.bulk_out, found.bulk_in, found.interrupt_in, found.interface) == (
        BULK_OUT, BULK_IN, INTERRUPT_IN, 4,
    )  # fmt: skip


def test_a_configured_device_is_not_configured_again(plugged: list[Any]) -> None:
    plugged.append(Device())
    claim(plugged)
    assert plugged[0].done == ["open", "open", "get", "claim"]


def test_one_that_is_not_configured_is(plugged: list[Any]) -> None:
    plugged.append(Device())
    plugged[0].configured = 0
    claim(plugged)
    assert plugged[0].done[-2:] == ["set 1", "claim"]


def test_a_kernel_driver_is_told_to_leave(plugged: list[Any]) -> None:
    plugged.append(Device())
    plugged[0].kernel_has_it = True
    claim(plugged)
    assert plugged[0].done.index("detach") < plugged[0].done.index("claim")


LYING = {
    "no endpoint at all": (endpoint(BULK_OUT, 2),),
    "two of a kind": (*GOOD, endpoint(0x04, 2)),
    "one too many": (*GOOD, endpoint(0x04, 3)),
    "isochronous": (endpoint(INTERRUPT_IN, 3), endpoint(BULK_OUT, 1), endpoint(BULK_IN, 2)),
    "empty packets": (endpoint(INTERRUPT_IN, 3), endpoint(BULK_OUT, 2, 0), endpoint(BULK_IN, 2)),
    "odd packets": (endpoint(INTERRUPT_IN, 3), endpoint(BULK_OUT, 2), endpoint(BULK_IN, 2, 65)),
    "huge status": (endpoint(INTERRUPT_IN, 3, 4096), endpoint(BULK_OUT, 2), endpoint(BULK_IN, 2)),
}  # fmt: skip


@pytest.mark.parametrize("lie", LYING)
def test_endpoints_that_cannot_be_true_are_refused(plugged: list[Any], lie: str) -> None:
    plugged.append(Device(*LYING[lie]))
    error = refused(plugged)
    assert error.code == "usb-descriptors"
    assert "device TR000001 (bus 3 device 7) cannot be true" in str(error)
    assert "claim" not in plugged[0].done


def test_no_permission_names_the_rule_that_cures_it(plugged: list[Any]) -> None:
    plugged.append(Device())
    plugged[0].fails["open"] = errno.EACCES
    assert with_step(str(refused(plugged))) == (
        "port-denied: no permission for bus 3 device 7; install systemd/70-tmsctl.rules; "
        "then start the guard again"
    )


def test_a_device_that_may_not_be_looked_at_hides_no_other(plugged: list[Any]) -> None:
    plugged += [Device(serial="TR000009"), Device()]
    plugged[0].fails["open"] = errno.EACCES
    assert claim(plugged).device is plugged[1]
    assert plugged[0].done == ["disposed"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EBUSY, "port-busy"),
        (errno.ENODEV, "port-missing"),
        (errno.EIO, "port-missing"),
        (errno.EACCES, "port-denied"),
        (errno.EPERM, "port-denied"),
        (errno.EINVAL, "port-failed"),
    ],
)
@pytest.mark.parametrize("step", ["get", "set 1", "detach", "claim"])
def test_each_step_that_fails_has_its_cause(
    plugged: list[Any], step: str, number: int, code: str
) -> None:
    plugged.append(Device())
    plugged[0].kernel_has_it = True
    plugged[0].configured = 0
    plugged[0].fails[step] = number
    assert refused(plugged).code == code


@pytest.mark.parametrize("place", [HERE, UsbPlace("", "")])
@pytest.mark.parametrize("serial", ["", None])
def test_a_serial_number_that_cannot_be_read_is_looked_at_again(
    plugged: list[Any], serial: str | None, place: UsbPlace
) -> None:
    """A defect once: it was taken for empty, and any device was then as good as this one."""
    plugged.append(Device(serial=serial))
    assert str(refused(plugged, place)) == (
        "port-failed: bus 3 device 7 cannot be used: its serial number cannot be read"
    )
    plugged[0].serial = "TR000001"
    assert claim(plugged, place).serial == "TR000001"


def test_a_serial_number_that_cannot_be_read_hides_no_other(plugged: list[Any]) -> None:
    plugged += [Device(serial=None), Device()]
    assert claim(plugged).device is plugged[1]


@pytest.mark.parametrize("place", [HERE, UsbPlace("", "")])
def test_a_device_without_a_serial_number_is_none_of_tmslink(
    plugged: list[Any], place: UsbPlace
) -> None:
    plugged.append(Device())
    plugged[0].iSerialNumber = 0
    assert str(refused(plugged, place)) == (
        "usb-descriptors: the descriptors of bus 3 device 7 cannot be true: it has no serial number"
    )
    plugged.append(Device())
    assert claim(plugged, place).device is plugged[1]


def test_another_serial_number_is_another_device(plugged: list[Any]) -> None:
    plugged.append(Device(serial="TR000002"))
    error = refused(plugged)
    assert error.code == "port-missing"
    assert "TR000001" in str(error)


def test_two_devices_are_both_named(plugged: list[Any]) -> None:
    plugged += [Device(), Device(serial="TR000002")]
    error = refused(plugged, UsbPlace("", ""))
    assert error.code == "port-ambiguous"
    assert "TR000001" in str(error)
    assert "TR000002" in str(error)


def test_another_class_is_never_opened(plugged: list[Any]) -> None:
    other = Device()
    other[0][0].bInterfaceProtocol = 2
    plugged.append(other)
    assert refused(plugged).code == "port-missing"
    assert other.done == ["disposed"]


def test_a_computer_without_libusb_says_which_package_is_missing(mocker: MockerFixture) -> None:
    mocker.patch("usb.backend.libusb1._lib", None)
    mocker.patch.object(usb_find, "LIBRARY", "libusb-0.0.so.99")
    with pytest.raises(PortError) as caught:
        usb_find.backend_of(HERE)
    assert with_step(str(caught.value)) == (
        "libusb-missing: libusb-0.0.so.99 cannot be loaded; install the package libusb-1.0-0"
    )


class NoBuses:
    """libusb, as it fails where the kernel has no USB."""

    def libusb_init(self, _context: object) -> int:
        return -99

    def libusb_strerror(self, _code: int) -> bytes:
        return b"Other error"


@pytest.mark.parametrize("loaded", [NoBuses(), None])
def test_a_computer_without_usb_says_so(mocker: MockerFixture, loaded: NoBuses | None) -> None:
    mocker.patch("usb.backend.libusb1._lib", loaded)
    mocker.patch.object(usb_find, "dlopen")
    mocker.patch("usb.backend.libusb1.get_backend", return_value=None)
    with pytest.raises(PortError, match="no USB on this computer") as caught:
        usb_find.backend_of(HERE)
    assert caught.value.code == "port-failed"


# -- the url ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("usb:TR000001", UsbPlace("", "TR000001")),
        ("usb:", UsbPlace("", "")),
        ("usbip:unix:/run/usb#TR000001", UsbPlace("unix:/run/usb", "TR000001")),
        ("usbip:127.0.0.1:3240", UsbPlace("127.0.0.1:3240", "")),
        ("usbip:[::1]:3240#X", UsbPlace("[::1]:3240", "X")),
        ("usbip:[fe80::1%eth0]:3240", UsbPlace("[fe80::1%eth0]:3240", "")),
        (f"usbip:{'a' * 63}.example:65535", UsbPlace(f"{'a' * 63}.example:65535", "")),
        ("usbip:münchen.example:3240", UsbPlace("münchen.example:3240", "")),
    ],
)
def test_a_url_says_where_and_which(url: str, place: UsbPlace) -> None:
    assert is_usb(url)
    assert usb_place(url) == place


@pytest.mark.parametrize("url", ["usb-serial:FT1", "/dev/ttyUSB0", "socket://127.0.0.1:1"])
def test_a_serial_line_is_none(url: str) -> None:
    assert not is_usb(url)


@pytest.mark.parametrize("row", registry.DRIVERS, ids=[row.info.name for row in registry.DRIVERS])
def test_only_tmslink_takes_a_usb_device(row: registry.Row) -> None:
    place = registry.Place("usb:TR000001", SITE, 1, lambda transport: transport)
    if row.info.name == "tmslink":
        assert registry.make(row, place, {}).fileno() == -1
        return
    with pytest.raises(ValueError, match=f"{row.info.name} speaks over serial lines; allowed are"):
        registry.make(row, place, {})


def test_a_usb_url_that_is_wrong_is_refused_at_start() -> None:
    place = registry.Place("usbip:nowhere", SITE, 1, lambda transport: transport)
    with pytest.raises(ValueError, match="allowed are usb:SERIAL"):
        registry.make(registry.find("tmslink"), place, {})


@pytest.mark.parametrize("code", ["port-ambiguous", "libusb-missing", "usb-descriptors"])
def test_each_cause_of_usb_has_a_next_step(code: str) -> None:
    assert STEPS[code]
