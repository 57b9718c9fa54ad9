"""Variables that tell pods where Services are."""

from solo.node.servicelinks import variables


def service(name, address, *ports):
    return {"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}


def test_a_service_with_two_ports():
    web = {"name": "web-ui", "port": 80, "protocol": "TCP"}
    assert variables([service("my-db", "127.32.0.9", web, {"name": "dns", "port": 53, "protocol": "UDP"})]) == {
        "MY_DB_SERVICE_HOST": "127.32.0.9",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_WEB_UI": "80",
        "MY_DB_SERVICE_PORT_DNS": "53",
        "MY_DB_PORT": "tcp://127.32.0.9:80",
        "MY_DB_PORT_80_TCP": "tcp://127.32.0.9:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "127.32.0.9",
        "MY_DB_PORT_53_UDP": "udp://127.32.0.9:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "127.32.0.9",
    }


def test_an_address_of_ipv6():
    found = variables([service("a", "fd00::1", {"port": 80})])
    assert (found["A_SERVICE_HOST"], found["A_PORT"]) == ("fd00::1", "tcp://[fd00::1]:80")


def test_services_without_an_address():
    assert variables([service("headless", "None", {"port": 80}), {"metadata": {"name": "named"}, "spec": {}}]) == {}
