"""The model that MLServer serves, in the server's own process, with its adaptive batching."""

import asyncio

from mlserver import MLModel, types
from ranker import Ranker


class Model(MLModel):
    async def load(self) -> bool:
        self._ranker = Ranker.from_environment()
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        packed = [bytes(one) for one in payload.inputs[0].data]
        # In a thread, as MLServer's own runtimes are not: the loop goes on to take requests while ONNX Runtime computes.
        answers = await asyncio.to_thread(self._ranker.answers, packed)
        output = types.ResponseOutput(name="answer", datatype="BYTES", shape=[len(answers), 1], data=answers)
        return types.InferenceResponse(model_name=self.name, outputs=[output])
