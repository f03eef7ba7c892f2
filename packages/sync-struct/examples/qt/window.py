import signal
import sys

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication, QFormLayout, QLabel, QWidget
from sync_struct import mirror


class Bridge(QObject):
    """Emits signals from the mirror's thread to the main thread, which has the widgets."""

    changed = Signal()
    state = Signal(str)


class Window(QWidget):
    """A row for each item of a published dict."""

    def __init__(self, bridge):
        super().__init__()
        self._rows = QFormLayout(self)
        self._values = {}
        bridge.state.connect(self.show_state)

    def show_structure(self, structure):
        for name, value in structure.items():
            if name not in self._values:
                self._values[name] = QLabel()
                self._rows.addRow(name, self._values[name])
            self._values[name].setText(str(value))

    def show_state(self, state):
        self.setWindowTitle(f"lab: {state}")
        print(state, flush=True)


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Qt's loop would not notice Ctrl-C
    application = QApplication(sys.argv)
    bridge = Bridge()
    window = Window(bridge)
    with mirror(
        "127.0.0.1",
        3250,
        "lab",
        max_rate=20,  # more is not visible
        notify_cb=lambda mod: bridge.changed.emit(),
        state_cb=bridge.state.emit,
    ) as lab:
        bridge.changed.connect(lambda: window.show_structure(lab.read))
        window.show_structure(lab.read)
        window.show()
        return application.exec()


if __name__ == "__main__":
    sys.exit(main())
